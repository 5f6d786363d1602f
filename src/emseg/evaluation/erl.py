"""Expected run length: how far one follows a neuron, on average, before an error ends the run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emseg.errors import UserError
from emseg.kernels.run_lengths import add_runs, count_nodes
from emseg.volumes.skeletons import Skeletons

TOLERANCES = (0.0, 5.0, 20.0, 50.0, 100.0, math.inf)


@dataclass(frozen=True, eq=False)
class NodeOverlaps:
    """Which skeletons run through which segments; all scores of skeletons follow from this.

    Pair p is skeleton `skeleton[p]` (an index) in segment `segment[p]` (an id): `nodes[p]` of its
    nodes lie there, and its edges with both ends there are `run[p]` nm long. Segment 0 has no runs.
    """

    skeleton: np.ndarray
    segment: np.ndarray
    nodes: np.ndarray
    run: np.ndarray
    lengths: np.ndarray
    splits: int
    omitted: int

    @property
    def longest(self) -> float:
        """The ERL of a perfect segmentation, in nm."""
        return float(np.square(self.lengths).sum() / self.lengths.sum())

    def erl(self, false_runs: np.ndarray) -> float:
        """The ERL in nm when the runs of some pairs (P,) bool do not count."""
        return float(np.square(self.run[~false_runs]).sum() / self.lengths.sum())

    def false_runs(self, tolerance: float = 0.0) -> np.ndarray:
        """Per pair (P,) bool, whether a merger makes its run worthless, as defined by BANIS.

        So it is if its segment joins two skeletons or more, and some segment joins its skeleton. A
        skeleton with `tolerance` nodes in a segment or fewer is not joined by it.
        """
        counted = self.nodes > tolerance
        merging = self.shared(counted)
        joined = np.zeros(len(self.lengths), bool)
        joined[self.skeleton[counted & merging]] = True
        return merging & joined[self.skeleton]

    def mergers(self, tolerance: float = 0.0, *, background: bool = True) -> int:
        """The sum, over all merging segments, of the number of skeletons that each joins."""
        counted = self.nodes > tolerance
        joined = counted & self.shared(counted)
        return int((joined & (background | (self.segment != 0))).sum())

    def shared(self, counted: np.ndarray) -> np.ndarray:
        """Per pair (P,) bool, whether its segment is in two of the `counted` pairs or more."""
        return (np.bincount(self._place[counted], minlength=len(self.segment)) >= 2)[self._place]

    @cached_property
    def _place(self) -> np.ndarray:
        """The number (P,) of each pair's segment."""
        return np.unique(self.segment, return_inverse=True)[1]


def node_overlaps(segments: np.ndarray, skeletons: Skeletons) -> NodeOverlaps:
    """The overlaps of skeletons with segments; `segments` (N,) is the segment of each node.

    Raises UserError if no skeleton has an edge, since there is no length to measure.
    """
    if not skeletons.lengths.any():
        raise UserError("the skeletons have no edges of any length: run lengths need some")
    segments = np.ascontiguousarray(segments, np.int64)
    pair, owners, names, nodes = count_nodes(skeletons.owner, segments)
    run, splits, omitted = add_runs(
        skeletons.edges, skeletons.edge_lengths, segments, pair, len(owners)
    )
    return NodeOverlaps(
        skeleton=owners,
        segment=names,
        nodes=nodes,
        run=run,
        lengths=skeletons.lengths,
        splits=splits,
        omitted=omitted,
    )


def nerl(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    tolerances: Sequence[float] = TOLERANCES,
    skeletons: Skeletons,
    node_segments: np.ndarray | None = None,
) -> dict[str, float]:
    """The expected run length of the skeletons, in nm and as a share of the possible one.

    `nerl` is `erl` / `max_erl`, 1 for a perfect segmentation; `nerl_5` and so on, for `tolerances`
    above 0, ignore mergers of a skeleton with this number of nodes in the segment or fewer; all are
    divided by the same `max_erl`. An edge with an end in segment 0 is omitted, one between two
    segments is split, one within a segment that holds nodes of two skeletons is lost; the remaining
    edges of a skeleton in a segment are one run. `n_splits` counts split edges, `n_mergers` the
    skeletons in segments that join some (`n_non0_mergers`: without segment 0).

    `node_segments` (N,) is the segment of each node of the skeletons, 0 for none; if it is missing,
    the segmentation (Z, Y, X) is read. The truth is not used.

    Januszewski et al., Nature Methods 2018; sums and names as in BANIS, in float64.
    """
    if node_segments is None:
        if segmentation is None:
            raise UserError("nerl needs a segmentation, or the segments of the skeletons' nodes")
        node_segments = segmentation[tuple(skeletons.voxels.T)]
    found = node_overlaps(node_segments, skeletons)
    strict, longest = found.erl(found.false_runs()), found.longest
    numbers = {"erl": strict, "max_erl": longest}
    for tolerance in tolerances:
        name = "nerl" if tolerance == 0 else f"nerl_{tolerance:g}"
        erl = strict if tolerance == 0 else found.erl(found.false_runs(tolerance))
        numbers[name] = erl / longest
    return numbers | {
        "n_splits": found.splits,
        "n_mergers": found.mergers(),
        "n_non0_mergers": found.mergers(background=False),
    }


def merge_threshold_erl(
    segments: np.ndarray,
    skeletons: Skeletons,
    *,
    merge_threshold: int = 1,
    no_merge: Mapping[int, int] | None = None,
) -> float:
    """The ERL in nm as defined by em_erl, where a merger needs `merge_threshold` nodes.

    A segment is a merger if it holds at least that many nodes of two skeletons or more; then no run
    in it counts, not even that of a skeleton with fewer. `no_merge` counts the voxels of segments
    in a mask where no neuron should be: with more than `merge_threshold` of these, a segment's runs
    do not count for skeletons with at least that many nodes in it.
    """
    found = node_overlaps(segments, skeletons)
    counted = found.nodes >= merge_threshold
    lost = found.shared(counted)
    if no_merge:
        entered = [segment for segment, voxels in no_merge.items() if voxels > merge_threshold]
        lost = lost | (counted & np.isin(found.segment, entered))
    return found.erl(lost)


def node_voi(segments: np.ndarray, skeletons: Skeletons) -> dict[str, float]:
    """The variation of information over nodes, in bits: `node_voi_split` and `node_voi_merge`.

    Segment 0 is a segment like any other. Every node counts once, for any length of its edges.
    """
    found = node_overlaps(segments, skeletons)
    share = found.nodes / found.nodes.sum()
    ids, place = np.unique(found.segment, return_inverse=True)
    of_skeleton = np.bincount(found.skeleton, share)[found.skeleton]
    of_segment = np.bincount(place, share, len(ids))[place]
    return {
        "node_voi_split": float((share * np.log2(of_skeleton / share)).sum()) + 0.0,
        "node_voi_merge": float((share * np.log2(of_segment / share)).sum()) + 0.0,
    }
