"""The distance of cleft masks against every voxel held against every other, and against scipy."""

from functools import partial
from math import hypot, inf, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import distance_transform_edt

from emseg.errors import UserError
from emseg.evaluation.cremi_distance import cremi_distance
from emseg.stages.scores import score_names
from reference.clefts import cremi_distance_by_definition

CREMI = (40.0, 4.0, 4.0)
SIZES = st.sampled_from([CREMI, (30, 8, 6), (50.0, 50.0, 50.0), (4, 4, 40), (33.3, 7.1, 3.58)])
# More columns than are in work together are among them.
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 8) | st.integers(60, 132))


DEEP = st.tuples(st.integers(10, 50), st.integers(1, 4), st.integers(1, 4))


@st.composite
def volumes(draw, shapes=SHAPES):
    """Masks from empty to full, with or without a part that is not known."""
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shares = st.sampled_from([0.0, 0.01, 0.05, 0.3, 0.9, 1.0])
    segmentation = (rng.random(shape) < draw(shares)) * rng.integers(1, 4, shape)
    truth = (rng.random(shape) < draw(shares)) * rng.integers(1, 4, shape)
    truth[rng.random(shape) < draw(st.sampled_from([0, 0.1, 0.5]))] = -1
    truth.flat[rng.integers(truth.size)] = 0
    return segmentation.astype(np.uint16), truth


@settings(deadline=None, max_examples=200)
@given(pair=volumes() | volumes(DEEP), voxel_size=SIZES)
def test_it_is_its_definition(pair, voxel_size):
    found = cremi_distance(*pair, voxel_size=voxel_size)
    assert all(type(value) is float for value in found.values())
    wanted = cremi_distance_by_definition(*pair, voxel_size)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), shape=st.tuples(*[st.integers(1, 4)] * 3), voxel_size=SIZES)
def test_every_small_volume_is_its_definition(data, shape, voxel_size):
    segmentation = data.draw(arrays.arrays(np.bool_, shape))
    truth = data.draw(arrays.arrays(np.int8, shape, elements=st.integers(-1, 1)))
    truth.flat[0] = max(truth.flat[0], 0)
    found = cremi_distance(segmentation, truth, voxel_size=voxel_size)
    wanted = cremi_distance_by_definition(segmentation, truth, voxel_size)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-9, nan_ok=True)


def test_by_hand():
    truth, segmentation = np.zeros((3, 4, 200), int), np.zeros((3, 4, 200), int)
    truth[1, 2, 100] = 1
    for z, x in ((1, 50), (1, 149), (1, 151), (0, 100)):  # 200, 196, 204 and 40 nm away
        segmentation[z, 2, x] = 1
    found = cremi_distance(segmentation, truth, voxel_size=CREMI)
    assert (found["cremi_adgt"], found["cremi_adf"], found["cremi_distance"]) == (160, 40, 100)
    assert (found["cremi_false_positives"], found["cremi_false_negatives"]) == (1, 0)
    assert (found["cremi_adgt_max"], found["cremi_adgt_median"]) == (204, 198)
    assert (found["cremi_segmentation_voxels"], found["cremi_truth_voxels"]) == (4, 1)


@pytest.mark.parametrize("voxel_size", [CREMI, (40.0, 8.0, 8.0), np.float32([40, 4, 4])])
@pytest.mark.parametrize("place", [(0, 0, 0), (5, 50, 50), (10, 100, 100)])
def test_200_nm_themselves_are_not_far(voxel_size, place):
    shape = (11, 101, 101)
    truth = np.zeros(shape, np.int8)
    truth[place] = 1
    z, y, x = (np.arange(size) - at for size, at in zip(shape, place, strict=True))
    # Whole numbers: 200 = 50 * 4 = 5 * 40 = hypot(120, 160) and more.
    sizes = [int(size) ** 2 for size in voxel_size]
    square = sizes[0] * z[:, None, None] ** 2 + sizes[1] * y[:, None] ** 2 + sizes[2] * x**2
    assert hypot(120, 160) == 200 and (square == 200**2).sum() >= 4
    everywhere = np.ones(shape, np.uint8)
    found = cremi_distance(everywhere, truth, voxel_size=voxel_size)
    assert found["cremi_false_positives"] == (square > 200**2).sum()
    reverse = cremi_distance(truth, everywhere, voxel_size=voxel_size)
    assert reverse["cremi_false_negatives"] == (square > 200**2).sum()
    exactly = cremi_distance(square == 200**2, truth, voxel_size=voxel_size)
    assert (exactly["cremi_adgt"], exactly["cremi_false_positives"]) == (200, 0)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("voxels", [6, 7, 30, 56, 2000])
def test_sizes_that_are_rounded_make_no_false_voxel(voxels, kind):
    truth = np.zeros((1, 1, voxels + 2), np.uint8)
    truth[..., 0] = 1
    found = cremi_distance(np.ones_like(truth), truth, voxel_size=(30, 30, kind(200 / voxels)))
    assert found["cremi_false_positives"] == 1


def by_scipy(segmentation, truth, voxel_size):
    """(adgt, adf, false positives, false negatives) by two transforms of the whole volume."""
    ours, theirs = (segmentation > 0) & (truth != -1), truth > 0
    found = distance_transform_edt(~theirs, sampling=voxel_size)[ours]
    missed = distance_transform_edt(~ours, sampling=voxel_size)[theirs]
    false = [(one > 200.001).sum() for one in (found, missed)]
    return [found.mean(), missed.mean(), *false]


def sheets(shape, number, seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(number):
        start = [rng.integers(0, size) for size in shape]
        stop = [at + rng.integers(1, 9) for at in start]
        mask[tuple(map(slice, start, stop))] = True
    return mask


@pytest.mark.parametrize(
    ("ours", "theirs"), [(12, 12), (1, 1), (1, 12), (40, 1), (3000, 3000)], ids=str
)
@pytest.mark.parametrize("voxel_size", [CREMI, (9.0, 9.0, 20.0)])
def test_scipy_agrees_in_a_larger_volume(ours, theirs, voxel_size):
    shape = (24, 150, 197)
    segmentation, truth = sheets(shape, ours, 0), sheets(shape, theirs, 1).astype(np.int32)
    truth[:, 20:40, 30:50] = -1
    found = cremi_distance(segmentation, truth, voxel_size=voxel_size)
    names = ["adgt", "adf", "false_positives", "false_negatives"]
    wanted = by_scipy(segmentation, truth, voxel_size)
    assert [found[f"cremi_{name}"] for name in names] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("corner", [(0, 0, 0), (0, 0, -1), (-1, -1, 0)])
def test_masks_at_opposite_corners_are_as_far_apart_as_the_volume_is_large(corner):
    shape = (30, 90, 300)
    ours, theirs = np.zeros(shape, bool), np.zeros(shape, bool)
    ours[corner] = True
    theirs[tuple(-1 - at for at in corner)] = True
    found = cremi_distance(ours, theirs, voxel_size=CREMI)
    far = np.sqrt(((np.array(shape) - 1) ** 2 * np.array(CREMI) ** 2).sum())
    assert found["cremi_adgt"] == found["cremi_adf"] == found["cremi_distance"] == far


EMPTY, FULL = np.zeros((2, 3, 4), np.uint8), np.ones((2, 3, 4), np.uint8)
DISTANCES = [f"cremi_{way}{of}" for way in ("adgt", "adf") for of in ("", "_max", "_median")]


def test_two_empty_masks_are_the_same():
    found = cremi_distance(EMPTY, EMPTY, voxel_size=CREMI)
    assert set(found.values()) == {0}
    half = FULL.astype(np.int8)
    half[0], half[1] = -1, 0
    assert set(cremi_distance(half == -1, half, voxel_size=CREMI).values()) == {0}


def test_one_empty_mask_is_infinitely_far():
    for empty, full, pair in (("adgt", "adf", (EMPTY, FULL)), ("adf", "adgt", (FULL, EMPTY))):
        found = cremi_distance(*pair, voxel_size=CREMI)
        for of in ("", "_max", "_median", "_std"):
            assert isnan(found[f"cremi_{empty}{of}"])
        assert [found[f"cremi_{full}{of}"] for of in ("", "_max", "_median")] == [inf] * 3
        assert isnan(found[f"cremi_{full}_std"]) and found["cremi_distance"] == inf
        false = [found["cremi_false_positives"], found["cremi_false_negatives"]]
        assert false == ([0, 24] if pair[0] is EMPTY else [24, 0])


def swapped(name):
    names = {"adgt": "adf", "positives": "negatives", "segmentation": "truth"}
    for one, two in (names | {b: a for a, b in names.items()}).items():
        if one in name.split("_"):
            return name.replace(one, two)
    return name


@settings(deadline=None, max_examples=50)
@given(pair=volumes())
def test_the_two_masks_have_the_same_part(pair):
    ours, theirs = (one.clip(0).astype(int) for one in pair)
    found = cremi_distance(ours, theirs, voxel_size=CREMI)
    reverse = cremi_distance(theirs, ours, voxel_size=CREMI)
    assert {swapped(name): value for name, value in reverse.items()} == pytest.approx(
        found, rel=1e-12, nan_ok=True
    )
    larger = cremi_distance(ours, theirs, voxel_size=[8 * size for size in CREMI])
    for name in ("cremi_distance", *DISTANCES, "cremi_adgt_std", "cremi_adf_std"):
        assert larger[name] == pytest.approx(8 * found[name], rel=1e-12, nan_ok=True)
    order = [2, 0, 1]
    turned = cremi_distance(
        ours.transpose(order), theirs.transpose(order), voxel_size=[CREMI[axis] for axis in order]
    )
    assert turned == pytest.approx(found, rel=1e-12, nan_ok=True)


def test_the_labels_are_left_as_they_are():
    ours, theirs = FULL.copy(), np.full((2, 3, 4), -1)
    theirs[0] = 1
    for array in (ours, theirs):
        array.flags.writeable = False
    assert cremi_distance(ours, theirs, voxel_size=CREMI)["cremi_segmentation_voxels"] == 12


@pytest.mark.parametrize(
    ("segmentation", "truth", "voxel_size", "words"),
    [
        (FULL, FULL, None, r"set data\.test\.resolution"),
        (FULL, FULL, (4.0, 4.0), r"voxel size \[4.0, 4.0\] .* must be 3 numbers above 0"),
        (FULL, FULL, (4.0, 0.0, 4.0), "must be 3 numbers above 0"),
        (FULL[0], FULL[0], CREMI, "labels with 2 axes"),
        (FULL, FULL[:1], CREMI, r"shape \(2, 3, 4\), the truth \(1, 3, 4\)"),
        (FULL / 2, FULL, CREMI, "the segmentation is float64; ids are integers"),
        (FULL, FULL - 3.0, CREMI, "the truth is float64"),
        (FULL, FULL.astype(int) - 3, CREMI, "the truth holds the id -2"),
        (FULL, FULL.astype(int) - 2, CREMI, r"no labelled voxel \(all are -1\)"),
    ],
)
def test_what_has_no_distance_is_refused(segmentation, truth, voxel_size, words):
    with pytest.raises(UserError, match=words):
        cremi_distance(segmentation, truth, voxel_size=voxel_size)


def test_it_is_tried_on_a_toy():
    metrics = [partial(cremi_distance)]
    assert score_names(metrics) == list(cremi_distance(FULL, FULL, voxel_size=CREMI))
    with pytest.raises(UserError, match=r"data\.test\.resolution"):
        score_names(metrics, voxel_size=None)
