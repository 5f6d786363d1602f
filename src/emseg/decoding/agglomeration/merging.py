"""The merge tree of a region graph, and the segments of the tree at a threshold."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emseg.decoding.agglomeration.region_graph import Histograms, RegionGraph, added_up
from emseg.kernels.agglomeration import REGION, merge_groups, roots_below
from emseg.kernels.contacts import CONTACT, SAMPLE, Rule, fill_contacts
from emseg.kernels.contraction import contract, number_regions
from emseg.kernels.dust import join_small
from emseg.kernels.edge_sums import rename_edges
from emseg.kernels.grouping import capped_groups, pairs_by_score, split_by_group

_QUANTILES = range(10, 100, 5)
_NAMES = (
    "mean",
    *(f"aff{quantile}_his256" for quantile in _QUANTILES),
    *(f"hist_quant_{quantile}" for quantile in _QUANTILES),
)
MergeFunction = Literal[_NAMES]  # type: ignore[valid-type]

# The most regions in a group at first: their contacts fit in a core's second-level cache. Groups
# grow, since what is left after a round is the contacts between groups.
_MOST_REGIONS, _GROWTH = 1024, 4
# Groups are given to threads in so many parts each.
_PARTS = 8


@dataclass(frozen=True, eq=False)
class MergeTree:
    """Which fragment was merged into which, and at what score.

    `parents` int32 and `heights` float32 have an entry per fragment and for background, 0: of two
    regions that merge the larger smallest fragment gets the smaller one, and the score of the
    merge; itself and infinity if there was none below `until`. No parent has a lower height than
    its children.
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
    threads: int = 1,
    most_regions: int = _MOST_REGIONS,
) -> MergeTree:
    """The merge tree of all merges that score below `until`, the same for any `threads`.

    The regions whose contact has the lowest score are merged again and again; of equal scores the
    contact comes first whose largest original edge (in the order of `graph.edges`) does. This is
    done in rounds: groups of at most `most_regions` regions are merged by themselves as far as
    nothing outside can matter, and groups are larger in the next round (docs/decoding.md).
    """
    rule = Rule(quantile_of(merge_function), discretize_queue == 256, np.float32(until))
    contacts, samples = _contacts(graph.edges, samples_of(graph, merge_function), rule)
    fragments = np.arange(len(graph.sizes), dtype=np.int32)
    parents, heights = fragments.copy(), np.full(len(fragments), np.inf, np.float32)
    owners = np.empty(len(contacts), np.int32)
    while len(pairs := pairs_by_score(contacts, rule.until)):
        regions = _regions(fragments)
        groups, count = capped_groups(pairs, len(regions), most_regions)
        inner, outer = np.empty_like(contacts), np.empty_like(contacts)
        starts, queues, ends, n_outer = split_by_group(
            contacts, pairs, groups, count, inner, outer, regions["outside"]
        )

        def some(first: int, last: int) -> None:
            merge_groups(
                inner, starts, queues, ends, first, last, regions, owners, samples, rule,
                parents, heights,
            )  # fmt: skip

        _shared_out(some, starts, threads)
        numbers = np.empty(len(regions), np.int32)
        left = number_regions(regions, numbers)
        parts = (inner[: starts[-1]], outer[:n_outer])
        zeros = np.zeros(left + 1, np.int32)
        kept = contract(parts, numbers, left, samples, rule, zeros, contacts)
        contacts = contacts[:kept]
        fragments = regions["fragment"][regions["into"] < 0]
        most_regions *= _GROWTH
    return MergeTree(parents, heights, until)


def _regions(fragments: np.ndarray) -> np.ndarray:
    regions = np.zeros(len(fragments), REGION)
    for name in ("head", "tail", "into"):
        regions[name] = -1
    regions["fragment"], regions["outside"] = fragments, np.inf
    return regions


def _shared_out(work: Callable[[int, int], Any], starts: np.ndarray, threads: int) -> None:
    """Calls `work` for ranges of groups with about as many contacts each, in threads."""
    if threads == 1:
        work(0, len(starts) - 1)
        return
    wanted = np.linspace(0, starts[-1], threads * _PARTS + 1)
    bounds = np.searchsorted(starts, wanted)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, bounds[:-1].tolist(), bounds[1:].tolist()))


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
    rule = Rule(quantile_of(merge_function), False, np.float32(1))
    affinities = 1 - _contacts(contacts, histograms, rule)[0]["score"]
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


def _contacts(edges: np.ndarray, own: Histograms, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """The contacts before merging, with their scores, and the samples of their histograms."""
    contacts, samples = np.empty(len(edges), CONTACT), np.empty(len(own.bins), SAMPLE)
    fill_contacts(edges, own.starts, own.bins, own.weights, rule, contacts, samples)
    return contacts, samples
