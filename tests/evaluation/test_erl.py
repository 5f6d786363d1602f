import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.evaluation.erl import TOLERANCES, nerl
from emseg.volumes import open_volume
from emseg.volumes.skeletons import Skeletons, read_skeletons
from reference.erl import nerl as walked_nerl

DATA = os.environ.get("EMSEG_TEST_DATA")
with_data = pytest.mark.skipif(DATA is None, reason="EMSEG_TEST_DATA is unset: no real volumes")


def run_lengths(segments, skeletons: Skeletons, **arguments) -> dict[str, float]:
    """NERL of the segments that the nodes lie in."""
    return nerl(None, None, node_segments=segments, skeletons=skeletons, **arguments)


def lines(*counts: int, spacing: float = 100.0) -> Skeletons:
    """Straight skeletons 1, 2, ... of so many nodes, each node 100 nm from the one before."""
    owner = np.repeat(np.arange(len(counts)), counts)
    along = np.concatenate([np.arange(count) for count in counts])
    voxels = np.stack([owner, np.zeros_like(owner), along], axis=1)
    inner = np.flatnonzero(owner[1:] == owner[:-1])
    return Skeletons(
        ids=np.arange(1, len(counts) + 1),
        owner=owner,
        voxels=voxels,
        positions=voxels * spacing,
        edges=np.stack([inner, inner + 1], axis=1),
    )


# Two neurons of 1000 and 500 nm; what BANIS's own code returns for these labels of their nodes.
PUBLISHED = [
    ([7] * 11 + [8] * 6, 833.3333, 1.0, (0, 0, 0), 1.0),
    ([7] * 6 + [9] * 5 + [8] * 6, 440.0, 0.528, (0, 0, 1), 0.528),
    ([7] * 5 + [0] + [7] * 5 + [8] * 6, 593.3333, 0.712, (0, 0, 0), 0.712),
    ([7] * 17, 0.0, 0.0, (2, 2, 0), 0.0),
    ([7] * 12 + [8] * 5, 106.6667, 0.128, (2, 2, 1), 0.928),
]


@pytest.mark.parametrize(("labels", "erl", "share", "errors", "tolerant"), PUBLISHED)
def test_published_examples(labels, erl, share, errors, tolerant) -> None:
    found = run_lengths(np.array(labels), lines(11, 6))
    assert found["erl"] == pytest.approx(erl, rel=1e-6)
    assert found["max_erl"] == pytest.approx(833.3333, rel=1e-6)
    assert found["nerl"] == pytest.approx(share)
    assert found["nerl_5"] == pytest.approx(tolerant)
    assert (found["n_mergers"], found["n_non0_mergers"], found["n_splits"]) == errors
    assert run_lengths(np.array([7] * 17), lines(11, 6))["nerl_20"] == 1.0


def test_single_lines_of_the_original_implementation() -> None:
    one = lines(5, spacing=1.0)
    assert run_lengths(np.array([1, 1, 1, 2, 2]), one)["erl"] == pytest.approx(1.25)
    assert run_lengths(np.array([1, 1, 1, 1, 2]), one)["erl"] == pytest.approx(2.25)


def test_a_skeleton_that_is_hardly_touched_is_not_joined_but_keeps_its_run() -> None:
    labels, skeletons = np.array([9] * 11 + [9] * 11 + [9] * 3 + [5] * 8), lines(11, 11, 11)
    for tolerance in range(3, 11):
        found = run_lengths(labels, skeletons, tolerances=[tolerance])[f"nerl_{tolerance}"]
        assert found == pytest.approx(0.176667, abs=1e-6)


@st.composite
def forests(draw):
    """Skeletons that are random trees, and a segment for each of their nodes."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    owner = np.repeat(np.arange(len(sizes)), sizes)
    first = np.cumsum([0, *sizes[:-1]])
    edges = [
        (first[tree] + node, first[tree] + rng.integers(node))
        for tree, size in enumerate(sizes)
        for node in range(1, size)
    ]
    voxels = rng.integers(0, 9, (len(owner), 3))
    skeletons = Skeletons(
        ids=rng.permutation(50)[: len(sizes)],
        owner=owner,
        voxels=voxels,
        positions=voxels * np.array([30.0, 6.0, 6.0]) + rng.random((len(owner), 3)),
        edges=np.array(edges, np.int64).reshape(-1, 2),
    )
    return skeletons, rng.integers(0, draw(st.integers(1, 5)), len(owner)) * 7


@settings(deadline=None, max_examples=150)
@given(forests())
def test_all_tolerances_equal_the_walk_over_edges(case) -> None:
    skeletons, segments = case
    if not len(skeletons.edges):
        with pytest.raises(UserError, match="have no edges of any length"):
            run_lengths(segments, skeletons)
        return
    found = run_lengths(segments, skeletons, tolerances=(0, 1, 2, math.inf))
    walked = (
        dict(enumerate(segments.tolist())),
        skeletons.owner.tolist(),
        skeletons.positions.tolist(),
        skeletons.edges.tolist(),
    )
    for tolerance, name in ((0, "nerl"), (1, "nerl_1"), (2, "nerl_2"), (math.inf, "nerl_inf")):
        assert found[name] == pytest.approx(walked_nerl(*walked, tolerance), rel=1e-12, abs=1e-15)


@with_data
@pytest.mark.parametrize(
    "labels",
    ["labels/watershed_fragments", "labels/neuron_ids", "predictions/ffn_segmentation"],
)
def test_fib25_equals_the_walk_over_edges(labels: str) -> None:
    skeletons = read_skeletons(
        Path(DATA) / "skeletons/fib25_training_sample2_gt.npz", voxel_size=(10, 10, 10)
    )
    volume = open_volume(f"{DATA}/fib25/training_sample2.h5:volumes/{labels}")
    segments = volume[...][tuple(skeletons.voxels.T)].astype(np.int64)
    found = run_lengths(segments, skeletons)
    walked = (
        dict(enumerate(segments.tolist())),
        skeletons.owner.tolist(),
        skeletons.positions.tolist(),
        skeletons.edges.tolist(),
    )
    for tolerance in TOLERANCES:
        name = "nerl" if tolerance == 0 else f"nerl_{tolerance:g}"
        assert found[name] == pytest.approx(walked_nerl(*walked, tolerance), rel=1e-9)
    if labels == "labels/neuron_ids":
        assert found["nerl"] == 1


@with_data
def test_two_axons_of_em_erl() -> None:
    """Its program prints 2952.02 of 4166.81 nm for these files; its page has older numbers."""
    folder = Path(DATA) / "em_erl_j0126"
    skeletons = read_skeletons(folder / "gt_graph.npz", voxel_size=(30, 30, 30))
    truth, prediction = (open_volume(folder / f"vol_{name}.h5")[...] for name in ("gt", "pred"))
    perfect, found = (
        nerl(labels, None, skeletons=skeletons)["erl"] for labels in (truth, prediction)
    )
    assert (perfect, found) == pytest.approx((4166.81, 2952.02), abs=0.005)
