"""The mergers and splits of a segmentation that cost most run length, and their places."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from emseg.evaluation.erl import node_overlaps
from emseg.volumes.skeletons import Skeletons

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Merger:
    """A segment that joins skeletons, those with most nodes first, and their `lost` length in it.

    `nodes` are the numbers of nodes of each skeleton there, `lost` is in nm. `voxel` and `position`
    (nm) are those of the first skeleton's node that is nearest to a node of another one.
    """

    segment: int
    skeletons: tuple[int, ...]
    nodes: tuple[int, ...]
    lost: float
    voxel: Place
    position: Place


@dataclass(frozen=True)
class Split:
    """An edge between two segments, and the length in nm of the shorter of the runs it ends.

    `voxels` and `positions` (nm) are of its two ends, in the order of `segments`.
    """

    skeleton: int
    segments: tuple[int, int]
    lost: float
    voxels: tuple[Place, Place]
    positions: tuple[Place, Place]


def worst_mergers(
    segments: np.ndarray, skeletons: Skeletons, *, n: int = 10, tolerance: float = 0.0
) -> list[Merger]:
    """The `n` segments that lose most length because they join skeletons, the worst first.

    `segments` (N,) is the segment of each node. Skeletons with `tolerance` nodes in a segment or
    fewer are not joined by it; lost length is as in `nerl`. Segment 0 has no runs and is left out.
    """
    found = node_overlaps(segments, skeletons)
    counted = found.nodes > tolerance
    joining = np.unique(found.segment[found.joining(tolerance) & (found.segment != 0)])
    lost = np.where(found.lost(tolerance), found.run, 0.0)
    place = np.searchsorted(joining, found.segment).clip(max=max(len(joining) - 1, 0))
    own = np.flatnonzero(np.isin(found.segment, joining))
    losses = np.bincount(place[own], lost[own], len(joining))
    mergers = []
    for worst in np.argsort(-losses, kind="stable")[:n]:
        pairs = own[(found.segment[own] == joining[worst]) & counted[own]]
        pairs = pairs[np.argsort(-found.nodes[pairs], kind="stable")]
        members = found.skeleton[pairs]
        node = _meeting_node(segments == joining[worst], members, skeletons)
        mergers.append(
            Merger(
                segment=int(joining[worst]),
                skeletons=tuple(skeletons.ids[members].tolist()),
                nodes=tuple(found.nodes[pairs].tolist()),
                lost=float(losses[worst]),
                voxel=tuple(skeletons.voxels[node].tolist()),
                position=tuple(skeletons.positions[node].tolist()),
            )
        )
    return mergers


def worst_splits(segments: np.ndarray, skeletons: Skeletons, *, n: int = 10) -> list[Split]:
    """The `n` edges between two segments, neither of them 0, that cut the longest runs.

    `segments` (N,) is the segment of each node. An edge ends a run of its skeleton in each of the
    two segments; the shorter run counts. Equal ones are in the order of the edges.
    """
    found = node_overlaps(segments, skeletons)
    one, two = skeletons.edges.T
    cut = (segments[one] != segments[two]) & (segments[one] != 0) & (segments[two] != 0)
    edges = skeletons.edges[cut]
    lost = found.run[found.pair[edges]].min(axis=1)
    splits = []
    for worst in np.argsort(-lost, kind="stable")[:n]:
        here, there = edges[worst]
        splits.append(
            Split(
                skeleton=int(skeletons.ids[skeletons.owner[here]]),
                segments=(int(segments[here]), int(segments[there])),
                lost=float(lost[worst]),
                voxels=_both(skeletons.voxels, edges[worst]),
                positions=_both(skeletons.positions, edges[worst]),
            )
        )
    return splits


def _both(places: np.ndarray, ends: np.ndarray) -> tuple[Place, Place]:
    one, two = places[ends].tolist()
    return tuple(one), tuple(two)


def _meeting_node(inside: np.ndarray, members: np.ndarray, skeletons: Skeletons) -> int:
    """The node of the first member inside that is nearest to a node of the other members."""
    own = np.flatnonzero(inside & (skeletons.owner == members[0]))
    others = np.flatnonzero(inside & np.isin(skeletons.owner, members[1:]))
    distances, _ = KDTree(skeletons.positions[others]).query(skeletons.positions[own])
    return int(own[np.argmin(distances)])
