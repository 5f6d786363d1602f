import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data.polarity import Polarity
from emseg.decoding.polarity import polarity
from emseg.synthetic import layouts
from emseg.volumes import open_volume
from reference.polarity import directed_synapses

VOXEL_SIZES = [(30, 8, 8), (8, 8, 8), (10, 20, 5)]


@st.composite
def predictions(draw):
    channels = draw(st.sampled_from([2, 3]))
    shape = (channels, *draw(st.tuples(*[st.integers(1, 6)] * 3)))
    # Few voxels on: many small regions, apart from each other.
    values = st.sampled_from([0, 0, 0, 0, 51, 153, 204, 255])
    levels = draw(arrays(np.uint8, shape, elements=values, fill=st.just(0)))
    if channels == 3 and draw(st.booleans()):
        levels[2] = levels[:2].max(axis=0)
    return levels


@settings(deadline=None, max_examples=300)
@given(
    levels=predictions(),
    threshold=st.sampled_from([0.0, 0.2, 0.5, 0.7]),
    max_distance=st.sampled_from([0.0, 8.0, 16.0, 31.0, 100.0]),
    smallest=st.integers(0, 4),
    voxel_size=st.sampled_from(VOXEL_SIZES),
    dtype=st.sampled_from([np.uint8, np.float32, np.float16]),
)
def test_labels_are_those_of_looking_at_every_pair(
    levels, threshold, max_distance, smallest, voxel_size, dtype
):
    prediction = levels if dtype is np.uint8 else (levels / np.float32(255)).astype(dtype)
    found = polarity(
        prediction,
        threshold=threshold,
        max_distance=max_distance,
        dust_remove_size=smallest,
        voxel_size=voxel_size,
    )
    wanted = directed_synapses(
        levels / np.float32(255) if dtype is np.uint8 else prediction,
        threshold=float(np.float32(threshold)),
        max_distance=max_distance,
        smallest=smallest,
        voxel_size=voxel_size,
    )
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, wanted)


def decoded(*rows: str, **settings) -> list[str]:
    """The labels of a section drawn with "a" for pre and "b" for post."""
    drawn = np.array([list(row) for row in rows])
    prediction = np.stack([drawn == "a", drawn == "b"])[:, np.newaxis].astype(np.float32)
    labels = polarity(prediction, dust_remove_size=1, voxel_size=(30, 8, 8), **settings)
    return ["".join(map(str, row)).replace("0", ".") for row in labels[0].tolist()]


def test_the_largest_contact_goes_first_and_who_is_left_takes_the_nearest():
    rows = ("aabaa", "..baa", ".....", "b....")
    assert decoded(*rows, max_distance=24.0) == ["11433", "..433", ".....", "2...."]


def test_a_region_too_far_from_a_partner_is_dropped():
    rows = ("aabaa", "..baa", ".....", "b....")
    assert decoded(*rows, max_distance=23.9) == ["..211", "..211", ".....", "....."]


def test_the_first_of_equals_goes_first():
    assert decoded("a.b.a") == ["1.2.."]
    assert decoded("b.a.b") == ["2.1.."]
    assert decoded("aba.b") == ["123.4"]


def test_a_side_is_the_more_probable_and_both_must_exceed_the_threshold():
    pre, post = [0.9, 0.6, 0.6, 0.5], [0.1, 0.6, 0.8, 0.5]
    prediction = np.array([pre, post], np.float32).reshape(2, 1, 1, 4)
    given = {"dust_remove_size": 0, "voxel_size": (30, 8, 8)}
    assert polarity(prediction, **given).ravel().tolist() == [1, 1, 2, 0]
    both = np.array([1, 0.5, 0.6, 1], np.float32).reshape(1, 1, 1, 4)
    found = polarity(np.concatenate([prediction, both]), **given)
    assert found.ravel().tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_truth_decodes_to_itself(dtype, tmp_path, monkeypatch):
    monkeypatch.setitem(layouts.SHAPES, "polarity", (16, 128, 128))
    layouts.write_layout("polarity", tmp_path)
    labels = open_volume(tmp_path / "train_syn.h5")[...].astype(np.int32)
    values, _ = Polarity()(labels)
    prediction = (values * (255 if dtype is np.uint8 else 1)).astype(dtype)
    found = polarity(prediction, dust_remove_size=0, voxel_size=(30, 8, 8))
    synapses, first = np.unique((labels + 1) // 2, return_index=True)
    assert len(synapses) > 3 and synapses[0] == 0
    by_first = np.zeros(len(synapses), np.uint32)
    by_first[1 + np.argsort(first[1:])] = np.arange(1, len(synapses))
    wanted = 2 * by_first[(labels + 1) // 2] - (labels % 2 == 1)
    np.testing.assert_array_equal(found, wanted)
