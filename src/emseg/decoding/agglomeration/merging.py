"""The merge tree of a region graph, and the segments of the tree at a threshold."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from emseg.decoding.agglomeration.region_graph import Histograms, RegionGraph, added_up
from emseg.kernels.agglomeration import mean_scores, merge_regions, quantile_scores, roots_below
from emseg.kernels.dust import join_small
from emseg.kernels.edge_sums import rename_edges

_QUANTILES = range(10, 100, 5)
_NAMES = (
    "mean",
    *(f"aff{quantile}_his256" for quantile in _QUANTILES),
    *(f"hist_quant_{quantile}" for quantile in _QUANTILES),
)
MergeFunction = Literal[_NAMES]  # type: ignore[valid-type]


@dataclass(frozen=True, eq=False)
class MergeTree:
    """Which fragment was merged into which, and at what score.

    `parents` int32 and `heights` float32 have an entry per fragment and for background, 0: the
    smaller fragment into whose region this one's was merged, and the score of that merge; itself
    and infinity if there was none below `until`. No parent has a lower height than its children.
    """

    parents: np.ndarray
    heights: np.ndarray
    until: float

    def roots(self, threshold: float) -> np.ndarray:
        """Per fragment, int32, the smallest of its segment if all scores below it are merged."""
        if threshold > self.until:
            raise ValueError(f"merged until {self.until}, not {threshold}")
        return roots_below(self.parents, self.heights, np.float32(threshold))


def merge(
    graph: RegionGraph,
    *,
    merge_function: MergeFunction,
    until: float,
    discretize_queue: Literal[0, 256] = 0,
) -> MergeTree:
    """The merge tree of all merges that score below `until`; see `merge_regions` for the rules."""
    own, levels = samples_of(graph, merge_function), discretize_queue == 256
    scores = _scores(graph.edges, own, merge_function, levels=levels)
    limit = np.float32(until)
    waiting = np.flatnonzero(scores < limit)
    # Scores are not negative, so their bits have the same order.
    queue = scores[waiting].view(np.uint32).astype(np.uint64) << np.uint64(32)
    queue |= waiting.astype(np.uint64)
    queue.sort()
    parents = np.arange(len(graph.sizes), dtype=np.int32)
    heights = np.full(len(parents), np.inf, np.float32)
    merge_regions(
        graph.edges,
        scores,
        queue,
        own.starts,
        own.bins,
        own.weights,
        quantile_of(merge_function),
        levels,
        limit,
        parents,
        heights,
    )
    return MergeTree(parents, heights, until)


def merge_dust(
    graph: RegionGraph,
    roots: np.ndarray,
    *,
    merge_function: MergeFunction,
    below: int,
    affinity: float,
) -> np.ndarray:
    """The roots, int32, after segments of fewer than `below` voxels joined a neighbour.

    Contacts of more than `affinity`, strongest first (of equal ones by the segments' smallest
    fragments), join their two segments if one is still too small. A contact's affinity is one minus
    the score of all affinities between the two segments. PyTorch Connectomics' dust merge.
    """
    edges, own = graph.edges.copy(), samples_of(graph, merge_function)
    rename_edges(edges, roots)
    owners = np.repeat(np.arange(len(edges)), np.diff(own.starts))
    contacts, histograms = added_up(edges, (256 * owners + own.bins, own.weights), len(roots) - 1)
    assert histograms is not None
    affinities = 1 - _scores(contacts, histograms, merge_function, levels=False)
    order = np.argsort(-affinities, kind="stable")
    sizes = np.zeros(len(roots), np.int64)
    np.add.at(sizes, roots, graph.sizes)
    joined = np.arange(len(roots), dtype=np.int32)
    join_small(contacts, order[affinities[order] > affinity], sizes, below, joined)
    return joined[roots]


def segment_labels(graph: RegionGraph, roots: np.ndarray, *, least: int) -> np.ndarray:
    """The label of each fragment's segment, uint32, numbered by the segments' first voxels.

    Those of segments of fewer than `least` voxels are 0.
    """
    sizes = np.bincount(roots, weights=graph.sizes, minlength=len(roots))
    # A root is the smallest fragment of its segment; fragments are in the order of first voxels.
    large_enough = (roots == np.arange(len(roots))) & (sizes >= least)
    large_enough[0] = False
    return np.where(large_enough, np.cumsum(large_enough), 0).astype(np.uint32)[roots]


def samples_of(graph: RegionGraph, merge_function: MergeFunction) -> Histograms:
    """The histogram of each edge before merging; empty for the mean, which needs none."""
    if merge_function == "mean":
        return Histograms(
            np.zeros(len(graph.edges) + 1, np.int32), np.empty(0, np.uint8), np.empty(0, np.int32)
        )
    if merge_function.startswith("hist_quant_"):
        if graph.histograms is None:
            raise ValueError(f"{merge_function} needs a region graph with histograms")
        return graph.histograms
    # "aff": the largest affinity of a contact is its one sample.
    count = len(graph.edges)
    bins = np.minimum((graph.edges["max"] * np.float32(256)).astype(np.int32), 255)
    return Histograms(
        np.arange(count + 1, dtype=np.int32), bins.astype(np.uint8), np.ones(count, np.int32)
    )


def quantile_of(merge_function: MergeFunction) -> int:
    """The percentile that the function takes of its histograms, 0 for the mean."""
    if merge_function == "mean":
        return 0
    return int(
        merge_function.removeprefix("hist_quant_").removeprefix("aff").removesuffix("_his256")
    )


def _scores(
    edges: np.ndarray, own: Histograms, merge_function: MergeFunction, *, levels: bool
) -> np.ndarray:
    if merge_function == "mean":
        return mean_scores(edges, levels)
    return quantile_scores(own.starts, own.bins, own.weights, quantile_of(merge_function))
