import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decoding.test_multicut import UNITS, cells
from emseg.decoding.mutex_watershed import mutex_watershed
from emseg.errors import UserError
from emseg.kernels.affinity import affinities
from reference.multicut import mutex_segments, pairs_of

LONG = [*UNITS, (0, 2, 0), (0, -1, 2), (-2, 1, 0)]
SIX = {"offsets": LONG, "edge_side": "destination"}
EVERY = {"strides": (1, 1, 1)}


def slow(prediction, offsets, strides=(1, 1, 1)):
    """Labels of affinities stored at destinations, the three nearest first."""
    weighted = []
    for channel, offset in enumerate(offsets):
        partner = tuple(-step for step in offset)
        for voxel, other in pairs_of(prediction.shape[1:], partner):
            affinity = np.float32(prediction[(channel, *voxel)])
            first = min(voxel, other)
            pair = (first, max(voxel, other))
            if channel < 3:
                weighted.append((affinity, True, *pair))
            elif all(at % stride == 0 for at, stride in zip(first, strides, strict=True)):
                weighted.append((np.float32(1) - affinity, False, *pair))
    segments = mutex_segments(prediction.shape[1:], weighted)
    numbers: dict[frozenset, int] = {}
    labels = np.zeros(prediction.shape[1:], np.uint32)
    for voxel in np.ndindex(labels.shape):
        labels[voxel] = numbers.setdefault(segments[voxel], len(numbers) + 1)
    return labels


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))
STRIDES = st.tuples(*[st.integers(1, 3)] * 3)


@settings(deadline=None, max_examples=100)
@given(shape=SHAPES, seed=st.integers(0, 10**6), strides=STRIDES)
def test_segments_are_those_of_the_slow_reference(shape, seed, strides):
    # No ties: of a segment and one set apart from it, what comes first decides.
    random = np.random.default_rng(seed)
    values = random.permutation(np.arange(6 * np.prod(shape)) * 2 + 1.0)
    affinity = (values / (12 * np.prod(shape) + 1)).reshape(6, *shape).astype(np.float32)
    affinity[3:] = 0.3 + 0.7 * affinity[3:]
    found = mutex_watershed(affinity, strides=strides, **SIX)
    np.testing.assert_array_equal(found, slow(affinity, LONG, strides))


def smooth(seed: int, shape: tuple[int, int, int] = (4, 20, 22)) -> np.ndarray:
    truth = cells(seed, shape, 2, 3)
    values, _ = affinities(truth, offsets=LONG, edge_side="destination")
    noise = np.random.default_rng(seed).normal(0, 0.2, values.shape)
    return np.clip(0.2 + 0.6 * values + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_true_affinities_come_back_as_the_cells_they_are_of(seed):
    truth = cells(seed, (4, 30, 34), 2, 4)
    offsets = [*UNITS, (2, 0, 0), (0, 5, 0), (0, 0, 5)]
    prediction, _ = affinities(truth, offsets=offsets, edge_side="source")
    labels = mutex_watershed(
        prediction * np.uint8(255), **EVERY, offsets=offsets, edge_side="source"
    )
    assert len(np.unique(truth)) == 8 == labels.max()
    assert len(np.unique(np.stack([labels, truth]).reshape(2, -1), axis=1).T) == 8


def test_channels_may_come_in_any_order():
    prediction, order = smooth(1), [3, 2, 5, 0, 1, 4]
    wanted = mutex_watershed(prediction, **SIX)
    found = mutex_watershed(
        prediction[order], offsets=[LONG[channel] for channel in order], edge_side="destination"
    )
    np.testing.assert_array_equal(found[:, 1:, 1:] > 0, wanted[:, 1:, 1:] > 0)
    pairs = np.unique(np.stack([found, wanted]).reshape(2, -1), axis=1)
    assert len(pairs.T) == found.max() == wanted.max()


def test_small_segments_are_removed_and_the_others_numbered_by_first_voxels():
    prediction = np.random.default_rng(2).random((6, 4, 20, 22), np.float32)
    every, large = (
        mutex_watershed(prediction, **EVERY, dust_remove_size=n, **SIX) for n in (0, 12)
    )
    sizes = np.bincount(every.ravel())
    assert (sizes[1:] < 12).any() and every.min() == 1
    np.testing.assert_array_equal(large == 0, sizes[every] < 12)
    left = large[large > 0]
    _, first = np.unique(left, return_index=True)
    assert (np.diff(first) > 0).all() and left.max() == (sizes[1:] >= 12).sum()


def test_more_pairs_than_the_memory_holds_are_refused():
    with pytest.raises(UserError, match="decoding.memory_limit is 9.99e-07"):
        mutex_watershed(smooth(0), memory_limit=1e-6, **SIX)
