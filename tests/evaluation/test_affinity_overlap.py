import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.evaluation.affinity_overlap import affinity_overlap
from emseg.evaluation.counts import counts
from emseg.volumes import from_array
from reference.affinity import affinities_by_voxel

SHAPES = st.tuples(*[st.integers(1, 4)] * 3)
OFFSETS = st.lists(st.tuples(*[st.integers(-2, 2)] * 3), min_size=1, max_size=3)


@st.composite
def pairs(draw):
    """A prediction with values around 0.5, a truth, and what they are of."""
    shape, offsets = draw(SHAPES), draw(OFFSETS)
    values = st.sampled_from([0.0, 0.49, 0.5, 0.51, 1.0])
    prediction = draw(arrays.arrays(np.float32, (len(offsets), *shape), elements=values))
    if draw(st.booleans()):
        prediction = np.round(prediction * 255).astype(np.uint8)
    dtype = draw(st.sampled_from([np.int64, np.uint64]))
    ids = st.integers(-1 if dtype is np.int64 else 0, 2)
    truth = draw(arrays.arrays(dtype, shape, elements=ids))
    return prediction, truth, offsets, draw(st.sampled_from(["source", "destination"]))


@settings(deadline=None, max_examples=150)
@given(drawn=pairs())
def test_overlap_is_that_of_pairs_one_by_one(drawn):
    prediction, truth, offsets, side = drawn
    found = affinity_overlap(prediction, truth, offsets=offsets, edge_side=side)
    same, known = affinities_by_voxel(truth.astype(np.int64), offsets, side)
    chosen = prediction.astype(float) / (255 if prediction.dtype == np.uint8 else 1) >= 0.5
    true, joined = ({*zip(*np.nonzero(of & known), strict=True)} for of in (same == 1, chosen))
    either = len(true | joined)
    iou = len(true & joined) / either if either else 1.0
    assert found["affinity_iou"] == pytest.approx(iou)
    assert found["affinity_dice"] == pytest.approx(2 * iou / (1 + iou))
    volume = from_array(prediction, axes="czyx")
    assert affinity_overlap(volume, truth, offsets=offsets, edge_side=side) == found


@settings(deadline=None, max_examples=80)
@given(
    truth=arrays.arrays(np.int64, (2, 3, 3), elements=st.integers(-1, 2)),
    segmentation=arrays.arrays(np.uint32, (2, 3, 3), elements=st.integers(0, 3)),
)
def test_counts_are_of_ids_where_the_truth_counts(truth, segmentation):
    truth[0, 0, 0] = 1
    there = truth > 0
    found = counts(segmentation, truth)
    assert found == {
        "n_pred": len({*segmentation[there].tolist()}),
        "n_gt": len({*truth[there].tolist()}),
        "n_voxels": there.sum(),
    }
    assert counts(None, None, table=contingency(segmentation, truth)) == found


def test_nothing_to_count_is_refused():
    with pytest.raises(UserError, match="no labelled voxel"):
        counts(np.ones((1, 1, 2), np.uint8), np.array([[[0, -1]]]))
