import itertools

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.metrics import adapted_rand_error, variation_of_information

from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.evaluation.cremi import cremi_score
from emseg.evaluation.rand_index import rand_index
from emseg.evaluation.voi import voi
from reference.metrics import (
    adapted_rand_skimage,
    adapted_rand_snemi,
    cremi_by_definition,
    voi_by_definition,
)

NAMES = ["adapted_rand", "adapted_rand_precision", "adapted_rand_recall"]
REFERENCES = {"snemi": adapted_rand_snemi, "skimage": adapted_rand_skimage}
SHAPES = st.tuples(*[st.integers(1, 4)] * 3)


@st.composite
def volumes(draw):
    shape = draw(SHAPES)
    segmentation = draw(arrays.arrays(np.uint32, shape, elements=st.integers(0, 4)))
    truth = draw(arrays.arrays(np.int64, shape, elements=st.integers(-1, 4)))
    truth.flat[0] = 1
    return segmentation, truth


@pytest.mark.parametrize("variant", ["snemi", "skimage"])
@settings(deadline=None, max_examples=80)
@given(pair=volumes())
def test_adapted_rand_is_its_definition(variant, pair):
    found = adapted_rand(*pair, variant=variant)
    suffix = "_skimage" if variant == "skimage" else ""
    assert list(found) == [name + suffix for name in NAMES]
    assert all(type(value) is float for value in found.values())
    np.testing.assert_allclose(list(found.values()), REFERENCES[variant](*pair), atol=1e-12)


@settings(deadline=None, max_examples=80)
@given(pair=volumes())
def test_the_rand_index_is_its_definition(pair):
    segmentation, truth = (array[pair[1] > 0].tolist() for array in pair)
    voxels = zip(segmentation, truth, strict=True)
    agree = [(a == c) == (b == d) for (a, b), (c, d) in itertools.combinations(voxels, 2)]
    expected = sum(agree) / len(agree) if agree else 1
    assert rand_index(*pair) == {"rand_index": pytest.approx(expected, abs=1e-12)}


@settings(deadline=None, max_examples=80)
@given(pair=volumes())
def test_voi_is_its_definition(pair):
    found = voi(*pair)
    split, merge = voi_by_definition(*pair)
    assert list(found) == ["voi_split", "voi_merge", "voi_sum"]
    np.testing.assert_allclose(list(found.values()), [split, merge, split + merge], atol=1e-12)
    assert min(found.values()) >= 0


@pytest.mark.parametrize("gt0, suffix", [("counted", ""), ("ignored", "_gt0_ignored")])
@settings(deadline=None, max_examples=80)
@given(pair=volumes())
def test_the_cremi_score_is_its_definition(gt0, suffix, pair):
    found = cremi_score(*pair, gt0=gt0)
    names = ["cremi_score", "cremi_voi_split", "cremi_voi_merge", "cremi_adapted_rand"]
    assert list(found) == [name + suffix for name in names]
    assert all(type(value) is float for value in found.values())
    np.testing.assert_allclose(list(found.values()), cremi_by_definition(*pair, gt0=gt0), atol=1e-7)


@pytest.fixture(scope="module")
def grown():
    """Objects of some size, and a segmentation that splits, merges and leaves out parts of them."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 30, (4, 8, 8)), np.ones((5, 8, 8), int)).astype(np.int32)
    segmentation = np.kron(rng.integers(0, 40, (5, 16, 16)), np.ones((4, 4, 4), int))
    segmentation[truth > 9] = truth[truth > 9] // 2
    return segmentation.astype(np.uint64), truth


def test_adapted_rand_agrees_with_scikit_image(grown):
    segmentation, truth = grown
    error, precision, recall = adapted_rand_error(
        truth, segmentation.astype(int), ignore_labels=(0,)
    )
    # scikit-image has the names of precision and recall the other way round.
    found = adapted_rand(segmentation, truth, variant="skimage")
    np.testing.assert_allclose(list(found.values()), [error, recall, precision], rtol=0, atol=1e-9)


def test_voi_agrees_with_scikit_image(grown):
    segmentation, truth = grown
    split, merge = variation_of_information(truth, segmentation.astype(int), ignore_labels=(0,))
    found = voi(segmentation, truth)
    np.testing.assert_allclose(
        [found["voi_split"], found["voi_merge"]], [split, merge], rtol=0, atol=1e-9
    )


def test_background_counts_in_the_cremi_score_alone(grown):
    segmentation, truth = grown
    moved = np.where(truth == 0, 99, truth)
    assert cremi_score(segmentation, truth) == pytest.approx(cremi_score(segmentation, moved))
    ignored = cremi_score(segmentation, truth, gt0="ignored")
    named = adapted_rand(segmentation, truth) | voi(segmentation, truth)
    assert ignored["cremi_adapted_rand_gt0_ignored"] == named["adapted_rand"]
    product = named["voi_sum"] * named["adapted_rand"]
    assert ignored["cremi_score_gt0_ignored"] == pytest.approx(product**0.5)
    assert ignored["cremi_score_gt0_ignored"] != cremi_score(segmentation, truth)["cremi_score"]


def test_the_unlabelled_counts_in_no_cremi_score(grown):
    segmentation, truth = grown
    half = truth.copy()
    half[:10] = -1
    for gt0 in ("counted", "ignored"):
        found, expected = (
            cremi_score(segmentation, half, gt0=gt0),
            cremi_score(segmentation[10:], truth[10:], gt0=gt0),
        )
        # n, which c is over, stays that of the whole volume.
        assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-4)


@pytest.mark.parametrize(
    ("metric", "given", "meant"),
    [
        (cremi_score, {"gt0": "count"}, "counted"),
        (adapted_rand, {"variant": "sknimage"}, "skimage"),
    ],
)
def test_an_unknown_variant_is_refused(grown, metric, given, meant):
    [(name, value)] = given.items()
    with pytest.raises(UserError, match=f"unknown {name} '{value}'.*did you mean '{meant}'"):
        metric(*grown, **given)


def test_a_table_stands_for_the_arrays(grown):
    table = contingency(*grown)
    assert voi(None, None, table=table) == voi(*grown)
    assert cremi_score(None, None, table=table) == cremi_score(*grown)
    assert adapted_rand(None, None, table=table) == adapted_rand(*grown)


def scores(segmentation, truth):
    return {
        **adapted_rand(segmentation, truth),
        **adapted_rand(segmentation, truth, variant="skimage"),
        **voi(segmentation, truth),
        **cremi_score(segmentation, truth),
    }


def test_a_perfect_segmentation_under_other_names(grown):
    truth = grown[1]
    found = scores(np.where(truth > 0, 1000 - truth, 0).astype(np.uint16), truth)
    for name in ("adapted_rand", "adapted_rand_skimage", "voi_split", "voi_merge", "cremi_score"):
        assert found[name] == pytest.approx(0, abs=1e-12)


def test_an_empty_segmentation_is_all_alone_or_all_one():
    truth = np.repeat(np.arange(1, 5), 4).reshape(4, 4)
    found = scores(np.zeros((4, 4), np.uint8), truth)
    # snemi: joint = ours = 1 (c / n), theirs = 64; skimage: pairs 4 * 6 * 2 of 16 * 15.
    assert found["adapted_rand"] == pytest.approx(1 - 2 / 65)
    assert found["adapted_rand_skimage"] == pytest.approx(1 - 2 * 48 / (240 + 48))
    assert (found["voi_split"], found["voi_merge"]) == (0.0, 2.0)


def test_all_merged_and_all_split():
    truth = np.repeat(np.arange(1, 5), 4).reshape(4, 4)
    merged = scores(np.full((4, 4), 7), truth)
    assert merged["adapted_rand"] == pytest.approx(1 - 2 * 64 / (256 + 64))
    assert (merged["adapted_rand_recall"], merged["adapted_rand_recall_skimage"]) == (1, 1)
    assert (merged["voi_split"], merged["voi_merge"]) == (0, 2)
    split = scores(np.arange(1, 17).reshape(4, 4), truth)
    assert (split["adapted_rand_skimage"], split["adapted_rand_precision_skimage"]) == (1, 1)
    assert split["adapted_rand"] == pytest.approx(1 - 2 * 16 / (16 + 64))
    assert (split["voi_split"], split["voi_merge"]) == (2, 0)


def test_a_single_voxel_is_perfect():
    found = scores(np.array([[[9]]]), np.array([[[4]]]))
    assert [found[name] for name in ("adapted_rand", "adapted_rand_skimage", "voi_sum")] == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(
    "metric, nothing",
    [(adapted_rand, 0), (adapted_rand, -1), (voi, 0), (voi, -1), (cremi_score, -1)],
)
def test_a_truth_without_labels_is_refused(metric, nothing):
    with pytest.raises(UserError, match="no labelled voxel"):
        metric(np.ones((2, 2), int), np.full((2, 2), nothing))


@pytest.mark.real
def test_the_fib25_watershed_scores_as_published(real_data):
    with h5py.File(real_data / "fib25" / "training_sample2.h5") as file:
        labels = file["volumes/labels"]
        truth, fragments = labels["neuron_ids"][200:], labels["watershed_fragments"][200:]
    found = adapted_rand(fragments, truth, variant="skimage")
    assert found["adapted_rand_skimage"] == pytest.approx(0.292, abs=5e-4)
