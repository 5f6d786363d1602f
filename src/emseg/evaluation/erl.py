"""Expected run length: how far one follows a neuron, on average, before an error ends the run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    lengths = skeletons.lengths
    if not lengths.any():
        raise UserError("the skeletons have no edges of any length: run lengths need some")
    segments = np.ascontiguousarray(node_segments, np.int64)
    pair, skeleton, segment, nodes = count_nodes(skeletons.owner, segments)
    run, splits, _ = add_runs(
        skeletons.edges, skeletons.edge_lengths, segments, pair, len(skeleton)
    )
    place = np.unique(segment, return_inverse=True)[1]
    overlaps = _Overlaps(skeleton, place, nodes, run, lengths)
    strict, longest = overlaps.erl(0), float(np.square(lengths).sum() / lengths.sum())
    numbers = {"erl": strict, "max_erl": longest}
    for tolerance in tolerances:
        name = "nerl" if tolerance == 0 else f"nerl_{tolerance:g}"
        numbers[name] = (strict if tolerance == 0 else overlaps.erl(tolerance)) / longest
    merged = overlaps.joining(nodes > 0)
    return numbers | {
        "n_splits": splits,
        "n_mergers": int(merged.sum()),
        "n_non0_mergers": int((merged & (segment != 0)).sum()),
    }


@dataclass(frozen=True, eq=False)
class _Overlaps:
    """Pair p is skeleton `skeleton[p]` in segment `place[p]`, with its nodes and its run in nm."""

    skeleton: np.ndarray
    place: np.ndarray
    nodes: np.ndarray
    run: np.ndarray
    lengths: np.ndarray

    def joining(self, counted: np.ndarray) -> np.ndarray:
        """Per pair (P,) bool, whether its segment is in two of the `counted` pairs or more."""
        pairs = np.bincount(self.place[counted], minlength=len(self.place))
        return (pairs >= 2)[self.place]

    def erl(self, tolerance: float) -> float:
        """As BANIS: a skeleton that some segment joins has no run in any segment that joins."""
        counted = self.nodes > tolerance
        joining = self.joining(counted)
        joined = np.zeros(len(self.lengths), bool)
        joined[self.skeleton[counted & joining]] = True
        lost = joining & joined[self.skeleton]
        return float(np.square(self.run[~lost]).sum() / self.lengths.sum())
