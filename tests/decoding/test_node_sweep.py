"""Segments of nodes at many thresholds, from one pass, are those of the labels of each."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.decoding.affinity_cc import AffinityCC, affinity_cc
from emseg.evaluation.erl import nerl
from emseg.volumes.skeletons import Skeletons

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
THRESHOLDS = [-0.0, 0.0, 0.25, 0.4, 0.5, 0.50001, 128 / 255, 0.7, 0.75, 0.9, 1.0]


def drawn(seed, shape, dtype, levels):
    """Values of which many are equal (few levels), or none (levels 0), some of them 0 and 1."""
    rng = np.random.default_rng(seed)
    values = rng.random((3, *shape))
    if levels:
        values = np.round(values * levels) / levels
    if dtype == "uint8":
        return np.round(255 * values).astype(np.uint8)
    values[rng.random(values.shape) < 0.02] = -0.0
    return values.astype(dtype)


def assert_same_partition(found, wanted):
    np.testing.assert_array_equal(found == 0, wanted == 0)
    pairs = len(np.unique(np.stack([found, wanted]), axis=1).T)
    assert pairs == len(np.unique(found)) == len(np.unique(wanted))


def random_skeletons(rng, shape, nodes):
    owner = np.sort(rng.integers(0, 4, nodes))
    child = np.flatnonzero(owner[1:] == owner[:-1]) + 1
    voxels = rng.integers(0, shape, (nodes, 3))
    positions = voxels * np.array([20.0, 9.0, 9.0]) + rng.random((nodes, 3))
    edges = np.stack([child - 1, child], axis=1)
    return Skeletons(ids=np.arange(4), owner=owner, voxels=voxels, positions=positions, edges=edges)


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(*[st.integers(1, 6)] * 2, st.integers(1, 12)),
    dtype=st.sampled_from(["float32", "float16", "uint8"]),
    levels=st.sampled_from([0, 3, 10]),
    thresholds=st.lists(st.sampled_from(THRESHOLDS) | st.floats(0, 1), min_size=1, max_size=8),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    order=st.permutations([0, 1, 2]),
    edge_side=st.sampled_from(["source", "destination"]),
    excluded=st.sampled_from([None, 0.0, 0.2, 0.6]),
)
def test_every_threshold_has_the_partition_and_the_score_of_its_labels(
    tmp_path_factory, seed, shape, dtype, levels, thresholds, signs, order, edge_side, excluded
):
    rng = np.random.default_rng(seed)
    prediction = drawn(seed, shape, dtype, levels)
    offsets = [tuple(sign * s for s in UNITS[a]) for a, sign in zip(order, signs, strict=True)]
    facts, mask = {"offsets": offsets, "edge_side": edge_side}, {}
    if excluded is not None:
        path = tmp_path_factory.getbasetemp() / "mask_of_nodes.h5"
        with h5py.File(path, "w") as file:
            file["main"] = (rng.random(shape) >= excluded).astype(np.uint8)
        mask["affinity_mask_path"] = f"{path}:main"
    skeletons = random_skeletons(rng, shape, 40)
    found = list(AffinityCC(**mask).nodes(prediction, skeletons.voxels, thresholds, **facts))
    assert [threshold for threshold, _ in found] == sorted(set(thresholds))
    for threshold, segments in found:
        labels = affinity_cc(prediction, threshold=threshold, **mask, **facts)
        assert_same_partition(segments, labels[tuple(skeletons.voxels.T)])
        scores = nerl(None, None, skeletons=skeletons, node_segments=segments)
        assert scores == pytest.approx(nerl(labels, None, skeletons=skeletons), abs=1e-12)


def test_a_row_falls_apart_as_the_threshold_rises():
    prediction = np.zeros((3, 1, 1, 6), np.float16)
    prediction[2, 0, 0, [0, 1, 3, 5]] = [0.6, 0.9, 0.8, 0.7]
    voxels = np.array([[0, 0, x] for x in range(6)])
    found = AffinityCC().nodes(
        prediction, voxels, [0.75, 0.5, 0.85], offsets=UNITS, edge_side="source"
    )
    wanted = {0.5: [1, 1, 1, 4, 4, 6], 0.75: [0, 2, 2, 4, 4, 0], 0.85: [0, 2, 2, 0, 0, 0]}
    for threshold, segments in found:
        assert_same_partition(segments, np.array(wanted[threshold]))
