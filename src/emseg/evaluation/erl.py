"""Expected run length: how far one follows a neuron, on average, before an error ends the run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emseg.errors import UserError
from emseg.kernels.run_lengths import add_runs, count_nodes
from emseg.volumes.skeletons import Skeletons

TOLERANCES = (0.0, 5.0, 20.0, 50.0, 100.0, math.inf)


def nerl(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    tolerances: Sequence[float] = TOLERANCES,
    skeletons: Skeletons,
    node_segments: np.ndarray | None = None,
) -> dict[str, float]:
    """The expected run length of the skeletons, in nm and as a share of the possible one.

    An edge with an end in segment 0 is omitted, one between two segments is split, one within a
    segment that holds nodes of two skeletons is lost; the remaining edges of a skeleton in a
    segment are one run. Januszewski et al., Nature Methods 2018; sums and names as in BANIS, in
    float64.

    Args:
        segmentation: labels (Z, Y, X), read at the nodes if there are no `node_segments`.
        truth: not used.
        tolerances: for each number above 0, `nerl_<number>` ignores mergers of a skeleton with so
            many nodes in the segment or fewer.
        skeletons: the true ones, with lengths in nm.
        node_segments: the segment (N,) of each node of the skeletons, 0 for none.

    Returns:
        `nerl`, which is `erl` / `max_erl`, 1 for a perfect segmentation, and those of the
        tolerances; `n_splits` counts split edges, `n_mergers` the skeletons in segments that join
        some, `n_non0_mergers` those without segment 0.

    Raises:
        UserError: there are no segments of the nodes, or no skeleton has an edge.
    """
    if node_segments is None:
        if segmentation is None:
            raise UserError("nerl needs a segmentation, or the segments of the skeletons' nodes")
        node_segments = segmentation[tuple(skeletons.voxels.T)]
    found = node_overlaps(node_segments, skeletons)
    strict, longest = found.erl(0), found.longest
    numbers = {"erl": strict, "max_erl": longest}
    for tolerance in tolerances:
        name = "nerl" if tolerance == 0 else f"nerl_{tolerance:g}"
        numbers[name] = (strict if tolerance == 0 else found.erl(tolerance)) / longest
    merged = found.joining(0)
    return numbers | {
        "n_splits": found.splits,
        "n_mergers": int(merged.sum()),
        "n_non0_mergers": int((merged & (found.segment != 0)).sum()),
    }


@dataclass(frozen=True, eq=False)
class NodeOverlaps:
    """Pair p is skeleton `skeleton[p]` (an index) in segment `segment[p]` (an id).

    `nodes[p]` of its nodes lie there, and its edges with both ends there are `run[p]` nm long.
    Node n is in pair `pair[n]`. Segment 0 has no runs.
    """

    pair: np.ndarray
    skeleton: np.ndarray
    segment: np.ndarray
    nodes: np.ndarray
    run: np.ndarray
    lengths: np.ndarray
    splits: int

    @property
    def longest(self) -> float:
        """The ERL of a perfect segmentation, in nm."""
        return float(np.square(self.lengths).sum() / self.lengths.sum())

    @cached_property
    def _place(self) -> np.ndarray:
        """The number (P,) of each pair's segment, from 0."""
        return np.unique(self.segment, return_inverse=True)[1]

    def erl(self, tolerance: float) -> float:
        """The ERL in nm without the runs that mergers make worthless."""
        return float(np.square(self.run[~self.lost(tolerance)]).sum() / self.lengths.sum())

    def joining(self, tolerance: float) -> np.ndarray:
        """Per pair (P,) bool, whether its segment joins two skeletons or more.

        A skeleton with `tolerance` nodes in a segment or fewer is not joined by it.
        """
        pairs = np.bincount(self._place[self.nodes > tolerance], minlength=len(self._place))
        return (pairs >= 2)[self._place]

    def lost(self, tolerance: float) -> np.ndarray:
        """Per pair (P,) bool, whether a merger makes its run worthless, as defined by BANIS.

        A skeleton that some segment joins has no run in any segment that joins.
        """
        joining = self.joining(tolerance)
        joined = np.zeros(len(self.lengths), bool)
        joined[self.skeleton[joining & (self.nodes > tolerance)]] = True
        return joining & joined[self.skeleton]


def node_overlaps(segments: np.ndarray, skeletons: Skeletons) -> NodeOverlaps:
    """The overlaps of skeletons with segments; `segments` (N,) is the segment of each node.

    Raises UserError if no skeleton has an edge, since there is no length to measure.
    """
    if not skeletons.lengths.any():
        raise UserError("the skeletons have no edges of any length: run lengths need some")
    segments = np.ascontiguousarray(segments, np.int64)
    pair, skeleton, segment, nodes = count_nodes(skeletons.owner, segments)
    run, splits = add_runs(skeletons.edges, skeletons.edge_lengths, segments, pair, len(skeleton))
    return NodeOverlaps(pair, skeleton, segment, nodes, run, skeletons.lengths, splits)
