"""The arrays used for merging regions: how they are made, and enlarged when they are full.

They are made here, not in compiled code, because numpy allocates large arrays in pages of 2 MiB,
which makes random access faster. Parts that are not used take no memory.
"""

from typing import NamedTuple

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.histograms import HISTOGRAM, SAMPLE, make_histograms
from emseg.kernels.neighbours import REGION, fill_halves, make_regions, pack

# An edge's state: its score is up to date; others were added to it since; it no longer exists.
FRESH, STALE, GONE = 0, 1, 2

# What an edge's score is computed from: the number of affinities (or samples of its histogram) and,
# for a mean, their sum; and the score with which it is queued.
LINK = np.dtype([("score", np.float32), ("count", np.uint32), ("sum", np.int64)])


class Graph(NamedTuple):
    """Edges (`links`, `states` uint8) and the regions that they connect, see `neighbours`."""

    links: np.ndarray
    states: np.ndarray
    regions: np.ndarray
    halves: np.ndarray
    free: np.ndarray


class HistogramArrays(NamedTuple):
    """The histograms of all edges, see `histograms`; empty if scores are means."""

    edges: np.ndarray
    samples: np.ndarray
    rows: np.ndarray
    unused: np.ndarray


# How far merging has come, and how many more entries it needs to continue.
PROGRESS = np.dtype(
    [
        ("at", np.int64),  # in the queue
        ("end", np.int64),  # of the heap
        ("again", np.int64),  # edges that were queued again
        ("popped", np.int64),  # edges taken from queue or heap
        ("halves", np.int64),  # in use; the rest is free
        ("unused", np.int64),  # free rows of histograms
        ("lack_halves", np.int64),
        ("lack_rows", np.int64),
    ]
)


def graph_of(edges, fragments):
    """(the graph with a region per fragment, the number of halves in use)."""
    regions = np.empty(fragments, REGION)
    end = make_regions(edges, regions)
    halves = np.empty(end + len(edges), np.int64)
    fill_halves(edges, regions, halves)
    links, states = np.empty(len(edges), LINK), np.full(len(edges), FRESH, np.uint8)
    return Graph(links, states, regions, halves, np.full(64, -1, np.int64)), end


def with_more_halves(graph, progress):
    """The graph with as many free halves as were missing; those in use are moved to the start."""
    in_use = int(np.maximum(graph.regions["capacity"], 0).sum(dtype=np.int64))
    packed = np.empty(in_use + in_use // 2 + int(progress["lack_halves"]), np.int64)
    progress["halves"] = pack(graph.regions, graph.halves, graph.free, packed)
    return graph._replace(halves=packed)


def histograms_of(starts, bins, weights, quantile):
    """The histograms before any merging; empty ones if `quantile` is 0."""
    edges = np.empty(len(starts) - 1 if quantile else 0, HISTOGRAM)
    samples = np.empty(len(bins) if quantile else 0, SAMPLE)
    make_histograms(starts, bins, weights, edges, samples)
    return HistogramArrays(edges, samples, np.empty((0, 256), np.uint32), np.empty(0, np.int32))


def with_more_rows(histograms, progress):
    """The histograms with as many free rows as were missing."""
    old, n_unused = len(histograms.rows), int(progress["unused"])
    new = max(2 * old, old + int(progress["lack_rows"]), 64)
    rows, unused = np.empty((new, 256), np.uint32), np.empty(new, np.int32)
    rows[:old] = histograms.rows
    unused[:n_unused] = histograms.unused[:n_unused]
    unused[n_unused : n_unused + new - old] = np.arange(old, new)
    progress["unused"] += new - old
    return histograms._replace(rows=rows, unused=unused)


@kernel
def fill_links(edges, scores, starts, weights, quantile, links):
    """Fills the links of the edges before any merging."""
    for edge in range(len(edges)):
        link = links[edge]
        link.score, link.sum, link.count = scores[edge], edges[edge].sum, edges[edge].count
        if quantile:
            link.count = 0
            for sample in range(starts[edge], starts[edge + 1]):
                link.count += weights[sample]
