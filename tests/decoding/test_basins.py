"""Fragments as basins of heights: against a slow reference, and far enough read for any cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from emseg.blocks.store import MemoryStore
from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.volumes import from_array

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
AFTER = [np.array(step) for step in ((-1, 0, 0), (0, -1, 0), (0, 0, -1))]


def smooth_affinities(seed, shape, dtype=np.float32):
    values = np.random.default_rng(seed).normal(size=(3, *shape))
    values = gaussian_filter(values, (0, 1.2, 1.2, 1.2)) + 0.5 * gaussian_filter(values[:1], 2)
    values = 1 / (1 + np.exp(-12 * (values + 0.1)))
    values[:, values[0] > 0.97] = 1.0  # plateaus
    return np.round(values * 255).astype(dtype) if dtype == np.uint8 else values.astype(dtype)


def pairs_of(shape):
    for place in np.ndindex(*shape):
        for axis, step in enumerate(AFTER):
            before = tuple(np.add(place, step))
            if min(before) >= 0:
                yield axis, before, place


def reference(affinities, boundary, reach, spacing):
    """Fragments as a partition, by the rule as one says it; affinities destination-stored."""
    shape = affinities.shape[1:]
    # As float32, like any probability: what ties for the decoder ties here.
    values = affinities.astype(np.float32)
    values = values / np.float32(255) if affinities.dtype == np.uint8 else values
    total, count = np.zeros(shape), np.zeros(shape)
    for axis, before, place in pairs_of(shape):
        for end in (before, place):
            total[end] += values[axis][place]
            count[end] += 1
    means = np.float32(total / count)
    inside = means > np.float32(boundary)
    far = np.full(shape, np.inf)
    if not inside.all():
        far = distance_transform_edt(inside, sampling=spacing)
    depth = np.float32(np.minimum(far, reach)) / np.float32(reach)
    share = np.float32(0.01)
    heights = depth * (np.float32(1) - share) + means * share
    deepest: dict[tuple, tuple] = {}
    joined = []
    for axis, before, place in pairs_of(shape):
        height = np.float32(heights[before] + heights[place]) / np.float32(2)
        if depth[before] == depth[place] == means[before] == means[place] == 1:
            joined.append((before, place))
        for one, other, order in ((before, place, axis + 3), (place, before, axis)):
            if one not in deepest or (-height, order) < deepest[one][:2]:
                deepest[one] = (-height, order, other)
    joined += [(one, other) for one, (_, _, other) in deepest.items()]
    ends = np.array([[np.ravel_multi_index(end, shape) for end in pair] for pair in joined]).T
    graph = coo_array((np.ones(len(joined)), ends), (means.size, means.size))
    return connected_components(graph, directed=False)[1].reshape(shape)


def same_partition(one, other):
    both = len(np.unique(np.stack([one.ravel(), other.ravel()]), axis=1).T)
    return both == len(np.unique(one)) == len(np.unique(other))


@settings(max_examples=15)
@given(
    st.integers(0, 9999),
    st.tuples(*[st.integers(2, 14)] * 3),
    st.sampled_from([np.float32, np.float16, np.uint8]),
    st.sampled_from([(8, 8, 8), (30, 6, 6), (8, 4, 4)]),
    st.sampled_from([1.0, 2.5, 4.0]),
)
def test_basins_are_the_reference(seed, shape, dtype, voxel_size, reach):
    cut = smooth_affinities(seed, shape, dtype)
    facts = {"offsets": UNITS, "edge_side": "destination", "voxel_size": voxel_size}
    found = agglomerate(
        cut, thresholds=0.0, fragments="basins", basin_boundary=0.6, basin_reach=reach, **facts
    )
    spacing = np.array(voxel_size) / min(voxel_size)
    assert found.min() > 0
    assert same_partition(found, reference(cut, 0.6, reach, spacing))


@pytest.mark.parametrize("step", [1, 5, 13])
@pytest.mark.parametrize("voxel_size", [None, (30, 6, 6), (6, 6, 30)])
def test_blocks_read_as_far_as_heights_reach(step, voxel_size):
    cut = smooth_affinities(3, (4, 5, 60))
    facts = {"offsets": UNITS, "edge_side": "source", "voxel_size": voxel_size}
    decoder = Agglomerate(thresholds=0.0, fragments="basins", basin_reach=3.0, basin_boundary=0.6)
    whole = decoder(cut, **facts)
    assert len(np.unique(whole)) > 4
    found = np.zeros_like(whole)
    for block, part in decoder.blocks(
        from_array(cut, axes="czyx"),
        store=MemoryStore(whole.shape),
        block_shape=(3, 2, step),
        **facts,
    ):
        found[block.slices] = part
    np.testing.assert_array_equal(found, whole)


def test_rows_of_one_biased_channel_are_no_fragments():
    # Noise of a few hundredths between channels, as trained networks have it; within one object.
    rng = np.random.default_rng(0)
    cut = (0.4 + 0.02 * rng.random((3, 12, 12, 24))).astype(np.float32)
    cut[2] += np.float32(0.02)
    facts = {"offsets": UNITS, "edge_side": "destination", "thresholds": 0.0}
    rows, basins = (agglomerate(cut, fragments=rule, **facts) for rule in ("volume", "basins"))
    alone = np.bincount(rows.ravel())[1:].mean()
    assert np.bincount(basins.ravel())[1:].mean() > 4 * alone


def test_minus_zero_is_zero():
    zero = smooth_affinities(1, (6, 9, 9), np.float16)
    zero[zero < 0.4] = 0
    minus = np.where(zero == 0, np.float16(-0.0), zero)
    facts = {"offsets": UNITS, "edge_side": "destination", "fragments": "basins"}
    both = [agglomerate(cut, merge_function="mean", **facts) for cut in (zero, minus)]
    np.testing.assert_array_equal(*both)


def test_what_is_sure_all_over_is_one_fragment():
    # As of uint8: no voxel is deeper than another.
    cut = np.full((3, 9, 9, 9), 255, np.uint8)
    facts = {"offsets": UNITS, "edge_side": "destination"}
    assert agglomerate(cut, thresholds=0.0, fragments="basins", **facts).max() == 1
