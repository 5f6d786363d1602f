"""The merge tree of a region graph, and the segments of the tree at a threshold."""

import tempfile
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from emseg.decoding.agglomeration.edge_files import in_file
from emseg.decoding.agglomeration.region_graph import Histograms, RegionGraph, with_histograms
from emseg.decoding.agglomeration.rounds import Chunk, Tree, merge_in_rounds
from emseg.kernels.agglomeration import roots_below
from emseg.kernels.contacts import CONTACT, SAMPLE, Rule, fill_contacts, fill_samples, note_active
from emseg.kernels.dust import join_small
from emseg.kernels.edge_sums import rename_edges
from emseg.progress import phase
from emseg.volumes.atomic import writing

_QUANTILES = range(10, 100, 5)
_NAMES = (
    "mean",
    *(f"aff{quantile}_his256" for quantile in _QUANTILES),
    *(f"hist_quant_{quantile}" for quantile in _QUANTILES),
)
MergeFunction = Literal[_NAMES]  # type: ignore[valid-type]

# The most regions in a group at first: their contacts fit in a core's second-level cache.
_MOST_REGIONS = 2048
# Memory per contact of a chunk while it is merged (itself twice, its queue, table and owner), and
# per fragment (parents, heights, numbers and what is noted of it).
_BYTES_PER_CONTACT, _BYTES_PER_FRAGMENT = 140, 40
# Edges of a file that are read together.
_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class MergeTree:
    """Which fragment was merged into which, and at what score.

    `parents` int32 and `heights` float32 have an entry per fragment and for background, 0. A region
    is known by its smallest fragment. When two merge, the entries of the larger of these become
    the smaller one and the score of the merge; without a merge below `until` they are the fragment
    itself and infinity. No parent has a lower height than its children.
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
    memory: int | None = None,
) -> MergeTree:
    """The merge tree of all merges that score below `until`.

    The regions whose contact has the lowest score are merged again and again; of equal scores the
    contact comes first whose largest original edge (in the order of `graph.edges`) does. This is
    done in rounds, by groups of regions that are merged as far as nothing outside can matter; the
    tree is that of one queue (docs/decoding.md).

    Args:
        graph: with histograms for the functions that need them.
        merge_function, discretize_queue: as of `Agglomerate`.
        until: 0 to 1.
        threads, most_regions, memory: how it is done, which does not change the tree: the most
            regions in a group of the first round, and bytes for the graph and its contacts (None:
            any number); contacts that exceed them wait in a temporary folder.

    Raises:
        UserError: the temporary folder is full.
    """
    rule = Rule(quantile_of(merge_function), discretize_queue == 256, np.float32(until))
    starts, samples = _samples(graph, merge_function)
    parents = np.arange(len(graph.sizes), dtype=np.int32)
    tree = Tree(rule, samples, parents, np.full(len(parents), np.inf, np.float32))
    most = len(graph.edges) if memory is None else _most_contacts(memory, graph)
    in_files = most < len(graph.edges)
    parts = -(-len(graph.edges) // most) if in_files else min(threads, len(graph.edges))
    folder = partial(tempfile.TemporaryDirectory, prefix="emseg-merging-", dir=graph.scratch)
    place = folder() if in_files else nullcontext()
    what = f"merging {len(graph.sizes) - 1} fragments with {len(graph.edges)} contacts"
    with phase(what), place as name:
        chunks = list(_chunks(graph, starts, tree, parts, Path(name) if name else None))
        merge_in_rounds(chunks, tree, most_regions=most_regions, threads=threads, at_once=most)
    return MergeTree(parents, tree.heights, until)


def _most_contacts(memory: int, graph: RegionGraph) -> int:
    """How many contacts may be merged at once in so many bytes; some, even if there are too few."""
    left = memory - graph.nbytes - _BYTES_PER_FRAGMENT * len(graph.sizes)
    return max(1, max(left, memory // 16) // _BYTES_PER_CONTACT)


def _chunks(
    graph: RegionGraph, of_edge: np.ndarray, tree: Tree, parts: int, folder: Path | None
) -> Iterator[Chunk]:
    """Chunks with about as many contacts each; `of_edge` says where each edge's samples begin."""
    first_regions = graph.edges["u"]
    wanted = np.linspace(0, len(first_regions), parts, endpoint=False).astype(np.int64)
    starts = [0, *np.unique(first_regions[wanted[1:]]).tolist(), len(graph.sizes)]
    # Not by numpy, which copies what does not lie side by side.
    bounds = [bisect_left(first_regions, start) for start in starts]
    active = np.zeros(len(graph.sizes), np.bool_)
    for begin, end in pairwise(bounds):
        part = graph.edges[begin:end]
        note_active(part, begin, of_edge, tree.samples, tree.rule, active)
    for (start, stop), (begin, end) in zip(pairwise(starts), pairwise(bounds), strict=True):
        part, contacts = graph.edges[begin:end], np.empty(end - begin, CONTACT)
        count = fill_contacts(part, begin, of_edge, tree.samples, tree.rule, active, contacts)
        contacts.resize(count, refcheck=False)
        where = contacts if folder is None else folder / f"{start}.npy"
        chunk = Chunk(start, stop, begin, end, where, count)
        if folder:
            chunk.store(contacts)
        yield chunk


def _samples(graph: RegionGraph, merge_function: MergeFunction) -> tuple[np.ndarray, np.ndarray]:
    """Where each edge's samples begin (and the last end), and the samples; files as the edges."""
    if not (graph.in_file and merge_function.startswith("aff")):
        own = samples_of(graph, merge_function)
        samples = np.empty(len(own.bins), SAMPLE)
        fill_samples(own.starts, own.bins, own.weights, samples)
        return own.starts, samples
    count = len(graph.edges)
    parts = [slice(at, min(at + _AT_ONCE, count)) for at in range(0, count, _AT_ONCE)]

    def first_samples() -> Iterator[np.ndarray]:
        for part in parts:
            samples = np.empty(part.stop - part.start, SAMPLE)
            samples["next"], samples["weight"] = -1, 1
            samples["bin"] = _bins(graph.edges[part])
            yield samples

    starts = (np.arange(part.start, part.stop, dtype=np.int32) for part in parts)
    ends = [np.array([count], np.int32)]
    with writing(graph.scratch or Path(tempfile.gettempdir())):
        return (
            in_file(chain(starts, ends), np.dtype(np.int32), graph.scratch),
            in_file(first_samples(), SAMPLE, graph.scratch),
        )


def _bins(edges: np.ndarray) -> np.ndarray:
    return np.minimum((edges["max"] * np.float32(256)).astype(np.int32), 255)


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
    samples = 256 * owners + own.bins, own.weights
    contacts, histograms = with_histograms(edges, samples, len(roots) - 1)
    added = RegionGraph(contacts, histograms, graph.sizes)
    affinities = 1 - first_scores(added, merge_function, levels=False, samples=histograms)
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
    # A root is the smallest fragment of its segment; fragments are in the order of first voxels.
    large_enough = roots == np.arange(len(roots), dtype=roots.dtype)
    if least:
        large_enough &= np.bincount(roots, weights=graph.sizes, minlength=len(roots)) >= least
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
    bins = _bins(graph.edges).astype(np.uint8)
    return Histograms(np.arange(count + 1, dtype=np.int32), bins, np.ones(count, np.int32))


def quantile_of(merge_function: MergeFunction) -> int:
    """The percentile that the function takes of its histograms, 0 for the mean."""
    if merge_function == "mean":
        return 0
    return int(
        merge_function.removeprefix("hist_quant_").removeprefix("aff").removesuffix("_his256")
    )


def first_scores(
    graph: RegionGraph,
    merge_function: MergeFunction,
    *,
    levels: bool,
    samples: Histograms | None = None,
) -> np.ndarray:
    """The score of each edge before merging, float32; with `levels` rounded to 256 of them.

    `samples` replace those that the function takes of each edge.
    """
    own = samples or samples_of(graph, merge_function)
    linked = np.empty(len(own.bins), SAMPLE)
    fill_samples(own.starts, own.bins, own.weights, linked)
    rule = Rule(quantile_of(merge_function), levels, np.float32(1))
    contacts = np.empty(len(graph.edges), CONTACT)
    every = np.ones(len(graph.sizes), np.bool_)
    fill_contacts(graph.edges, 0, own.starts, linked, rule, every, contacts)
    return contacts["score"].copy()
