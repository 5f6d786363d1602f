import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linear_sum_assignment

from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.evaluation.matching import instance_matching
from reference.metrics import best_matchings

NUMBERS = ["tp", "fp", "fn", "precision", "recall", "f1", "accuracy", "pq", "mean_true_score"]


@st.composite
def volumes(draw):
    size = draw(st.integers(1, 16))
    segmentation = draw(arrays.arrays(np.uint16, size, elements=st.integers(0, 5)))
    truth = draw(arrays.arrays(np.int32, size, elements=st.integers(-1, 5)))
    truth[0] = 3
    return segmentation, truth


def by_name(found, threshold):
    return {name: found[f"instance_{name}_{threshold}"] for name in NUMBERS}


@settings(deadline=None, max_examples=150)
@given(pair=volumes(), threshold=st.sampled_from([0.05, 0.2, 0.25, 0.5, 0.6, 1.0]))
def test_the_best_matching_is_found(pair, threshold):
    found = instance_matching(*pair, iou_thresholds=[threshold])
    assert list(found) == [f"instance_{name}_{threshold}" for name in NUMBERS]
    assert all(type(value) is float for value in found.values())
    best, objects, segments = best_matchings(*pair, threshold)
    tp, sums = len(best[0]), [sum(one) for one in best]
    fp, fn = segments - tp, objects - tp
    named = by_name(found, threshold)
    assert (named["tp"], named["fp"], named["fn"]) == (tp, fp, fn)
    assert named["precision"] == (tp / segments if segments else 0)
    assert named["recall"] == tp / objects
    assert named["f1"] == pytest.approx(2 * tp / (objects + segments))
    assert named["accuracy"] == pytest.approx(tp / (objects + segments - tp))
    total = named["mean_true_score"] * objects
    assert min(abs(total - one) for one in sums) < 1e-9
    assert named["pq"] == pytest.approx(total / ((objects + segments) / 2))


def dense_scores(segmentation, truth, threshold):
    """(tp, sum of matched IoU) by a matrix of all objects and segments."""
    objects, rows = np.unique(truth, return_inverse=True)
    segments, columns = np.unique(segmentation, return_inverse=True)
    shared = np.zeros((len(objects), len(segments)))
    np.add.at(shared, (rows.ravel(), columns.ravel()), 1)
    union = shared.sum(1, keepdims=True) + shared.sum(0, keepdims=True) - shared
    iou = (shared / union)[int(objects[0] == 0) :, int(segments[0] == 0) :]
    costs = -(iou >= threshold).astype(float) - iou / (2 * min(iou.shape))
    taken = iou[linear_sum_assignment(costs)]
    return (taken >= threshold).sum(), taken[taken >= threshold].sum()


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.3, 0.5, 0.7])
def test_a_thousand_instances_as_by_a_dense_assignment(threshold):
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.permutation(1200), rng.integers(1, 60, 1200))
    shift = rng.integers(0, 25)
    segmentation = np.roll(np.repeat(np.arange(1000), rng.integers(1, 80, 1000)), shift)
    size = min(len(truth), len(segmentation))
    truth, segmentation = truth[:size], segmentation[:size]
    tp, total = dense_scores(segmentation, truth, threshold)
    found = by_name(instance_matching(segmentation, truth, iou_thresholds=[threshold]), threshold)
    assert found["tp"] == tp > 10
    objects = len({*truth.tolist()} - {0})
    assert found["mean_true_score"] * objects == pytest.approx(total, rel=1e-9)


def test_more_pairs_go_before_better_ones():
    # Object 1 overlaps segment 1 best, but object 2 has no other.
    truth = np.repeat([1, 1, 2, 2], [4, 3, 2, 2])
    segmentation = np.repeat([1, 2, 1, 0], [4, 3, 2, 2])
    found = by_name(instance_matching(segmentation, truth, iou_thresholds=[0.2]), 0.2)
    assert (found["tp"], found["fn"]) == (2, 0)
    assert found["mean_true_score"] == pytest.approx((3 / 7 + 2 / 8) / 2)


def test_background_makes_a_segment_larger_and_the_unlabelled_does_not():
    truth, segmentation = np.array([5, 5, 0, 0, -1, -1]), np.array([7, 7, 7, 7, 7, 9])
    found = by_name(instance_matching(segmentation, truth, iou_thresholds=[0.5]), 0.5)
    assert (found["tp"], found["fp"], found["pq"]) == (1, 0, 0.5)  # IoU 2 of 4
    missed = by_name(instance_matching(segmentation, truth, iou_thresholds=[0.51]), 0.51)
    assert (missed["tp"], missed["fp"], missed["fn"]) == (0, 1, 1)


def test_nothing_segmented_finds_nothing():
    found = by_name(instance_matching(np.zeros(4, int), np.ones(4, int)), 0.5)
    assert {found[name] for name in NUMBERS if name != "fn"} == {0.0} and found["fn"] == 1


def test_a_table_stands_for_the_arrays():
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 9, (2, 50))
    assert instance_matching(None, None, table=contingency(*pair)) == instance_matching(*pair)
    assert len(instance_matching(*pair)) == 2 * len(NUMBERS)


@pytest.mark.parametrize("truth", [[0, 0], [-1, 0]])
def test_a_truth_without_objects_is_refused(truth):
    with pytest.raises(UserError, match="no object"):
        instance_matching(np.ones(2, int), np.array(truth))


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.5], [0.0], [1.5], [float("nan")]])
def test_thresholds_that_mean_nothing_are_refused(thresholds):
    with pytest.raises(UserError, match="iou_thresholds"):
        instance_matching(np.ones(2, int), np.ones(2, int), iou_thresholds=thresholds)
