"""The truth as metrics take it, and tables that are counted block by block."""

from dataclasses import replace

import numpy as np
import pytest

from emseg.config.schema import BorderMask
from emseg.config.schema_data import VolumeConfig
from emseg.data.labelled import read_labels
from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.evaluation.borders import border_mask
from emseg.stages import truth as stage
from emseg.stages.sources import open_sources
from emseg.stages.truth import count_overlaps, read_truth, truth_facts
from emseg.volumes import Volume, from_array, write_volume

SHAPE = (9, 11, 7)
EDT = BorderMask(mode="edt", distance=1.0)
SQUARE = BorderMask(mode="square", distance=1.0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ids():
    """Blocks of ids, background among them."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 5, (3, 3, 2)), np.ones((3, 4, 4), int))[:, :11, :7]


def source(ids, *, axes="zyx", borders=None, mask=None, **config):
    """A volume whose truth are the ids, stored in that order of axes."""
    arrays = {"im": np.zeros(ids.shape, np.uint8), "truth": ids, "mask": mask}
    for name, array in arrays.items():
        if array is not None:
            write_volume(f"{name}.h5", array, axes=axes, voxel_size=None, attributes={})
    volume = VolumeConfig(
        image="im.h5", label="truth.h5", mask=None if mask is None else "mask.h5", **config
    )
    (opened,) = open_sources({"a": volume}, split="test")
    return replace(opened, border_mask=borders or BorderMask())


def test_the_ids_stay_as_they_are_where_all_is_known(ids):
    for dtype in (np.uint8, np.uint64, np.int64):
        truth = read_truth(source(ids.astype(dtype)))
        assert truth.dtype == dtype and np.array_equal(truth, ids)


def test_a_region_is_part_of_the_whole(ids):
    mask = np.ones(ids.shape, np.uint8)
    mask[:, 0] = 0
    given = source(ids, mask=mask, unlabelled=4, range=(0, 3))
    wanted = np.where((ids == 4) | (mask == 0), -1, ids)[:3]
    assert np.array_equal(read_truth(given), wanted)
    assert np.array_equal(read_truth(given, (1, 0, 2), (3, 4, 6)), wanted[1:, :4, 2:6])


@pytest.mark.parametrize(
    ("dtype", "signed"),
    [("uint8", "int16"), ("uint32", "int64"), ("uint64", "int64"), ("int32", "int32")],
)
def test_the_unlabelled_is_no_background(ids, dtype, signed):
    top = int(np.iinfo(dtype).max)
    stored = np.where(ids == 3, top, ids.astype(dtype))
    truth = read_truth(source(stored.astype(dtype), unlabelled=top))
    assert truth.dtype == signed
    assert np.array_equal(truth, np.where(ids == 3, -1, ids))


@pytest.mark.parametrize("unlabelled", [None, 2**64 - 2])
def test_the_background_id_is_zero(ids, unlabelled):
    stored = ids.astype(np.uint64)
    stored[ids == 3], stored[ids == 4] = 2**64 - 1, 2**64 - 2 if unlabelled else 4
    truth = read_truth(source(stored, background=2**64 - 1, unlabelled=unlabelled))
    wanted = np.where(ids == 3, 0, ids)
    assert np.array_equal(truth, np.where(ids == 4, -1 if unlabelled else 4, wanted))


def test_ids_that_have_no_sign_left_are_refused(ids):
    stored = ids.astype(np.uint64) + np.uint64(2**63)
    for unlabelled in (None, 7):
        with pytest.raises(UserError, match=r"truth\.h5.*92233720368547758\d\d.*below 2\^63"):
            read_truth(source(stored, unlabelled=unlabelled))


def test_a_negative_id_without_a_name_is_refused(ids):
    stored = np.where(ids == 3, -2, ids.astype(np.int64))
    with pytest.raises(UserError, match="holds the label -2: labels are 0 or more"):
        read_truth(source(stored))
    assert (read_truth(source(stored, unlabelled=-2)) == -1).any()


NAMES = [(None, None), (None, -1), (-2, -1), (0, 5), (5, 0), (-1, 5), (0, None), (None, 0)]


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize(("unlabelled", "background"), NAMES)
def test_training_and_evaluation_read_the_same(ids, dtype, unlabelled, background):
    stored = ids.astype(np.int64)
    if dtype.startswith("int"):
        stored[ids == 1], stored[ids == 2] = -1, -2 if unlabelled == -2 else 2
    stored = (stored > 2) if dtype == "bool" else stored.astype(dtype)
    given = source(stored, unlabelled=unlabelled, background=background)
    trained = read_labels(given.labelled(), (0, 0, 0), stored.shape)
    expected = np.zeros(stored.shape, np.int64)
    for at, value in np.ndenumerate(stored.astype(np.int64)):
        unknown = value == unlabelled or (value < 0 and value != background)
        expected[at] = -1 if unknown else 0 if value == background else value
    np.testing.assert_array_equal(trained, expected)
    np.testing.assert_array_equal(read_truth(given).astype(np.int64), expected)


@pytest.mark.parametrize("axes", ["zyx", "xyz", "yzx"])
@pytest.mark.parametrize("borders", [EDT, SQUARE, BorderMask(mode="edt", distance=0)])
def test_the_border_mask_lies_in_sections(ids, axes, borders):
    order = ["zyx".index(axis) for axis in axes]
    truth = read_truth(source(ids.transpose(order), axes=axes, borders=borders))
    near = border_mask(ids, mode=borders.mode, distance=borders.distance)
    assert 0 < near.sum() < near.size
    assert np.array_equal(truth, np.where(near, -1, ids).transpose(order))


@pytest.mark.parametrize("voxels", [1, 40, 200, 10**9])
@pytest.mark.parametrize("axes", ["zyx", "xyz", "xzy"])
@pytest.mark.parametrize("borders", [BorderMask(), SQUARE])
def test_blocks_add_up_to_the_whole(ids, monkeypatch, voxels, axes, borders):
    monkeypatch.setattr(stage, "BLOCK_VOXELS", voxels)
    ids = ids.transpose(["zyx".index(axis) for axis in axes])
    known = np.random.default_rng(1).random(ids.shape) < 0.9
    given = source(ids, axes=axes, borders=borders, mask=known.astype(np.uint8), unlabelled=4)
    segmentation = np.random.default_rng(2).integers(0, 6, ids.shape).astype(np.uint32)
    expected = contingency(segmentation, read_truth(given))
    found = count_overlaps(from_array(segmentation, axes=axes), given)
    for name in ("truth", "segmentation", "counts"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert found.voxels == expected.voxels == ids.size
    assert 0 in expected.truth and 4 not in expected.truth


@pytest.mark.parametrize(("borders", "most"), [(BorderMask(), 21), (EDT, 77)])
def test_no_more_than_a_block_is_read_at_once(ids, monkeypatch, borders, most):
    monkeypatch.setattr(stage, "BLOCK_VOXELS", 25)
    given, read, sizes = source(ids, borders=borders, unlabelled=1), Volume.read, []

    def noting(volume, start, stop):
        sizes.append(int(np.prod(np.subtract(stop, start))))
        return read(volume, start, stop)

    monkeypatch.setattr(Volume, "read", noting)
    count_overlaps(given.label, given)
    assert max(sizes) == most and sum(sizes) == 2 * ids.size


def test_facts_tell_what_is_left_out(ids):
    plain = truth_facts(source(ids))
    assert plain["border_mask"] is None
    assert plain == truth_facts(source(ids, borders=BorderMask(distance=4.0))) | {
        "label": plain["label"]
    }
    assert truth_facts(source(ids, borders=SQUARE))["border_mask"] == {
        "mode": "square",
        "distance": 1.0,
    }


def test_a_border_mask_of_no_shape_is_refused():
    with pytest.raises(UserError, match="whole number"):
        BorderMask(mode="square", distance=1.5)
