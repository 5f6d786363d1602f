import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.evaluation.jaccard import jaccard
from reference.clefts import jaccard_by_definition

NAMES = ["jaccard", "jaccard_precision", "jaccard_recall"]


@st.composite
def volumes(draw):
    shape = draw(st.tuples(*[st.integers(1, 4)] * 3))
    segmentation = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 2)))
    truth = draw(arrays.arrays(np.int64, shape, elements=st.integers(-1, 2)))
    truth.flat[0] = max(truth.flat[0], 0)
    return segmentation, truth


@settings(deadline=None, max_examples=200)
@given(pair=volumes())
def test_jaccard_is_its_definition(pair):
    found = jaccard(*pair)
    assert list(found) == NAMES
    assert all(type(value) is float for value in found.values())
    assert list(found.values()) == pytest.approx(jaccard_by_definition(*pair), abs=1e-15)
    assert jaccard(None, None, table=contingency(*pair)) == found


@settings(deadline=None, max_examples=50)
@given(pair=volumes())
def test_ids_do_not_matter_and_swapped_masks_swap_precision_and_recall(pair):
    segmentation, truth = pair
    known = np.maximum(truth, 0)
    found, swapped = jaccard(segmentation, known), jaccard(known, segmentation)
    assert swapped == {**found, NAMES[1]: found[NAMES[2]], NAMES[2]: found[NAMES[1]]}
    assert jaccard(segmentation > 0, (known > 0) * np.uint64(2**64 - 1)) == found


@pytest.mark.parametrize(
    ("segmentation", "truth", "wanted"),
    [
        ([0, 0, 0, 0], [0, 0, -1, -1], [1, 1, 1]),
        ([0, 0, 1, 1], [0, 0, -1, -1], [1, 1, 1]),
        ([0, 0, 0, 0], [1, 0, 0, -1], [0, 1, 0]),
        ([1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1]),
        ([1, 2, 3, 0], [7, 7, 0, 0], [2 / 3, 2 / 3, 1]),
        ([1, 0, 0, 4], [1, 2, 3, 4], [1 / 2, 1, 1 / 2]),
    ],
)
def test_by_hand(segmentation, truth, wanted):
    found = jaccard(np.array([[segmentation]]), np.array([[truth]]))
    assert [found[name] for name in NAMES] == wanted


def test_nothing_known_is_refused():
    with pytest.raises(UserError, match=r"no labelled voxel \(all are -1\)"):
        jaccard(np.ones((2, 2, 2), np.uint8), np.full((2, 2, 2), -1))
