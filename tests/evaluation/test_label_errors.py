import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.evaluation import contingency
from emseg.evaluation.label_errors import places_of, worst_errors

SHAPES = st.tuples(*[st.integers(1, 5)] * 3)


@st.composite
def volumes(draw):
    """A segmentation, and a truth with unlabelled voxels."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    shape, ids = draw(SHAPES), draw(st.integers(1, 5))
    return rng.integers(0, ids + 1, shape), rng.integers(-1, ids + 1, shape)


def counted_one_by_one(of, part, n):
    """(id, parts, lost voxels) of the ids with several parts, the worst first."""
    rows = []
    for one in np.unique(of[(of > 0) & (part > 0)]):
        ids, counts = np.unique(part[(of == one) & (part > 0)], return_counts=True)
        order = sorted(range(len(ids)), key=lambda at: (-counts[at], ids[at]))
        if len(ids) > 1:
            two = (int(ids[order[0]]), int(ids[order[1]]))
            rows.append((int(one), two, int(counts.sum() - counts.max())))
    return sorted(rows, key=lambda row: (-row[2], row[0]))[:n]


@settings(deadline=None, max_examples=100)
@given(volumes(), st.integers(1, 3))
def test_the_worst_errors_are_those_counted_one_by_one(pair, n):
    segmentation, truth = pair
    found = worst_errors(contingency(segmentation, truth), n=n)
    rows = [(error.of, error.parts, error.voxels) for error in found if error.kind == "merger"]
    assert rows == counted_one_by_one(segmentation, truth, n)
    rows = [(error.of, error.parts, error.voxels) for error in found if error.kind == "split"]
    assert rows == counted_one_by_one(truth, segmentation, n)


@settings(deadline=None, max_examples=100)
@given(volumes(), st.integers(1, 3))
def test_places_are_where_the_parts_touch(pair, step):
    segmentation, truth = pair
    errors = worst_errors(contingency(segmentation, truth))
    blocks = [
        ((z, 0, 0), segmentation[z : z + step + 1], truth[z : z + step + 1])
        for z in range(0, len(truth), step)
    ]
    places = places_of(errors, blocks)
    assert places == places_of(errors, [((0, 0, 0), segmentation, truth)])
    for error, place in zip(errors, places, strict=True):
        of, part = (segmentation, truth)[:: 1 if error.kind == "merger" else -1]
        touching = [
            one
            for one in np.argwhere((of == error.of) & np.isin(part, error.parts)).tolist()
            for other in np.argwhere((of == error.of) & np.isin(part, error.parts)).tolist()
            if np.abs(np.subtract(one, other)).sum() == 1 and part[tuple(one)] != part[tuple(other)]
        ]
        assert list(place) in touching if touching else place is None
