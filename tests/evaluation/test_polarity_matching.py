import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.evaluation.matching import instance_matching
from emseg.evaluation.polarity import polarity_matching
from reference.polarity import directed_counts

KINDS = ("synapse", "synapse_directed")


@st.composite
def volumes(draw):
    size = draw(st.integers(1, 14))
    segmentation = draw(arrays(np.uint16, size, elements=st.integers(0, 8)))
    truth = draw(arrays(np.int32, size, elements=st.integers(-1, 8)))
    truth[0] = 3
    return segmentation, truth


@settings(deadline=None, max_examples=150)
@given(pair=volumes(), threshold=st.sampled_from([0.05, 0.25, 0.3, 0.5, 0.6, 1.0]))
def test_synapses_are_found_as_by_trying_every_matching(pair, threshold):
    scores = polarity_matching(*pair, iou_thresholds=[threshold])
    possible, segments, objects = directed_counts(*pair, threshold)
    found = [scores[f"{kind}_recall_{threshold}"] * objects for kind in KINDS]
    assert any(found == pytest.approx(one) for one in possible)
    for kind, count in zip(KINDS, found, strict=True):
        precision = count / segments if segments else 0
        assert scores[f"{kind}_precision_{threshold}"] == pytest.approx(precision)
        f1 = 2 * count / (objects + segments)
        assert scores[f"{kind}_f1_{threshold}"] == pytest.approx(f1)
    assert all(type(value) is float for value in scores.values()) and len(scores) == 6


@given(pair=volumes())
def test_without_direction_it_is_the_matching_of_both_sides_together(pair):
    folded = [(labels + 1) // 2 for labels in pair]
    folded[1] = np.where(pair[1] == -1, -1, folded[1])
    scores = polarity_matching(*pair, iou_thresholds=[0.3, 0.75])
    instances = instance_matching(*folded, iou_thresholds=[0.3, 0.75])
    for name in ("precision", "recall", "f1"):
        for threshold in (0.3, 0.75):
            wanted = instances[f"instance_{name}_{threshold}"]
            assert scores[f"synapse_{name}_{threshold}"] == pytest.approx(wanted)


def test_a_swapped_synapse_is_found_without_its_direction():
    truth = np.repeat([1, 2, 3, 4, 0], [4, 4, 4, 4, 9])
    swapped = np.repeat([8, 7, 5, 6, 0], [4, 4, 4, 4, 9])
    scores = polarity_matching(swapped, truth, iou_thresholds=[1.0])
    assert [scores[f"{kind}_f1_1.0"] for kind in KINDS] == [1, 0.5]


def test_a_synapse_of_one_undecided_half_has_no_direction():
    # Found as pre alone: four voxels agree, four do not.
    truth = np.repeat([1, 2], 4)
    scores = polarity_matching(np.ones(8, int), truth, iou_thresholds=[0.5])
    assert [scores[f"{kind}_f1_0.5"] for kind in KINDS] == [1, 0]


def test_a_table_of_blocks_stands_for_the_arrays_and_ids_may_be_the_greatest():
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.integers(0, 9, 20), 3).astype(np.uint64)
    segmentation = np.where(rng.random(60) < 0.4, rng.integers(0, 9, 60).astype(np.uint64), truth)
    segmentation[truth == 1], segmentation[truth == 2] = 2, 1
    table = contingency(segmentation[:25], truth[:25]) + contingency(segmentation[25:], truth[25:])
    scores = polarity_matching(segmentation, truth, iou_thresholds=[0.1, 0.2])
    assert polarity_matching(None, None, iou_thresholds=[0.1, 0.2], table=table) == scores
    assert 0 < scores["synapse_directed_f1_0.1"] < scores["synapse_f1_0.1"]
    top = np.uint64(2**64 - 1)
    # Moved by an even number, they stay on their side.
    moved = np.where(segmentation > 0, top - np.uint64(9) + segmentation, segmentation)
    assert polarity_matching(moved, truth, iou_thresholds=[0.1, 0.2]) == scores


def test_nothing_found_is_nought():
    assert set(polarity_matching(np.zeros(4, int), np.ones(4, int)).values()) == {0.0}


@pytest.mark.parametrize("truth", [[0, 0], [-1, 0]])
def test_a_truth_without_synapses_is_refused(truth):
    with pytest.raises(UserError, match="no object"):
        polarity_matching(np.ones(2, int), np.array(truth))


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.0], [1.5], [float("nan")]])
def test_thresholds_that_mean_nothing_are_refused(thresholds):
    with pytest.raises(UserError, match="^polarity_matching: iou_thresholds"):
        polarity_matching(np.ones(2, int), np.ones(2, int), iou_thresholds=thresholds)
