"""Watershed fragments and their region graph, block by block.

what block B reads: its voxels and one more on each side (not at the volume's faces)

    +---------------------+
    |  .   .   .   .   .  |      the strongest edge of a voxel is among the six around it, so
    |  .   B   B   B   .  |      these voxels are enough to know which pairs are joined: those
    |  .   B   B   B   .  |      in B, and those across its first face along each axis
    |  .   .   .   .   .  |
    +---------------------+
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emseg.blocks.grid import Block, Index, grid, slab_shape
from emseg.blocks.in_threads import in_parallel
from emseg.blocks.seams import Numbering, face_facts, number_blocks
from emseg.blocks.store import Facts, MemoryStore, Store
from emseg.decoding.agglomeration.basins import LIMITS, Basins
from emseg.decoding.agglomeration.limits import MOST_EDGES, EdgeLimit, TooManyEdges
from emseg.decoding.agglomeration.region_graph import RegionGraph, assemble, block_facts
from emseg.decoding.agglomeration.section_facts import assemble_sections, section_facts
from emseg.decoding.agglomeration.section_fragments import region_of, section_fragments
from emseg.decoding.edges import AxisEdge, edges_of, legal_edges, limits, probabilities
from emseg.kernels.numbering import relabel
from emseg.kernels.region_edges import EDGE, find_edges
from emseg.kernels.watershed import flood
from emseg.progress import phase
from emseg.volumes import Volume

# How fragments are made: by low and high limits of affinities, as basins, or in each section alone.
FragmentRule = tuple[float, float] | Basins | None


@dataclass(frozen=True, eq=False)
class Supervoxels:
    """The fragments of a volume: labels of blocks in a store, their numbering and their graph."""

    blocks: Sequence[Block]
    store: Store
    numbering: Numbering
    graph: RegionGraph

    def relabelled(
        self, block: int, table: np.ndarray, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Block number `block` with table[f] for each fragment f; uint32, `out` when given."""
        labels = self.store.labels(self.blocks[block])
        out = np.empty(labels.shape, np.uint32) if out is None else out
        own = table[self.numbering.ids[block]].astype(np.uint32, copy=False)
        if labels.flags.c_contiguous and out.flags.c_contiguous:
            relabel(labels.reshape(-1), own, out.reshape(-1))
        else:
            out[...] = own[labels]
        return out

    def relabel_all(self, table: np.ndarray | None, out: np.ndarray, threads: int) -> None:
        """Fills `out` with table[f] for each fragment f of a volume, or f; it may be the labels."""
        if table is None:
            table = np.arange(self.numbering.count + 1, dtype=np.uint32)

        def one(number: int) -> None:
            self.relabelled(number, table, out[self.blocks[number].slices])

        in_parallel(one, range(len(self.blocks)), threads=threads, label="segments")


def find_supervoxels(
    prediction: np.ndarray | Volume,
    *,
    edges: Sequence[AxisEdge],
    rule: FragmentRule,
    histograms: bool,
    sections: bool = False,
    store: Store,
    block_shape: Sequence[int],
    threads: int,
    limit: EdgeLimit,
) -> Supervoxels:
    """The watershed fragments of a prediction and their region graph, the same for all block sizes.

    `prediction` (C, Z, Y, X) of float32, float16 or uint8, `edges` says which channel is which
    axis's edge. `histograms` and `sections` say whether the graph gets these. Blocks that
    are `done` in the store are not computed again.

    Raises:
        TooManyEdges: there are more than the limit.
        UserError: values are no probabilities.
    """
    shape = tuple(prediction.shape[-3:])
    blocks = grid(shape, block_shape)
    about = edges, rule, histograms, sections, limit
    missing = [block for block in blocks if not store.done(block)]
    label_blocks(prediction, missing, *about, store=store, threads=threads)
    with phase("region graph"):
        numbering = number_blocks(blocks, store, shape)
        limit.check(numbering.count, 0)
        graph = _graph(blocks, store, numbering, prediction.dtype, histograms, sections, limit)
    limit.check(numbering.count, len(graph.edges))
    return Supervoxels(blocks, store, numbering, graph)


def label_blocks(
    prediction: np.ndarray | Volume,
    blocks: Sequence[Block],
    edges: Sequence[AxisEdge],
    rule: FragmentRule,
    histograms: bool,
    sections: bool,
    limit: EdgeLimit,
    *,
    store: Store,
    threads: int,
) -> None:
    """Fragments of blocks, and facts about them for `find_supervoxels`, into the store.

    Raises:
        TooManyEdges: these blocks alone have many more than the limit.
    """
    found: list[tuple[int, int]] = []

    def label(block: Block) -> None:
        labels, facts, *region = _fragments(block, prediction, edges, rule, store)
        facts |= _graph_facts(
            block, labels, *region, prediction.dtype, histograms, sections, limit.most_of_block
        )
        store.save(block, labels, facts)
        # Some edges are in two blocks, so this only stops hopeless cases early.
        found.append((len(facts["first"]) - 1, len(facts["edges"])))
        fragments, edges_so_far = np.sum(found, axis=0).tolist()
        if limit.in_memory and edges_so_far > 4 * limit.most:
            raise TooManyEdges(fragments, edges_so_far)

    in_parallel(label, blocks, threads=threads, label="fragments")


def given_supervoxels(
    fragments: np.ndarray,
    prediction: np.ndarray,
    *,
    edges: Sequence[AxisEdge],
    histograms: bool,
    sections: bool = False,
    limit: EdgeLimit | None = None,
) -> Supervoxels:
    """The supervoxels whose labels are given, numbered by their first voxel; one block.

    Raises TooManyEdges if there are more than the limit; None: as many as can be numbered.
    """
    bare, shape = bare_supervoxels(fragments), fragments.shape
    [block], store = bare.blocks, bare.store
    arrays, at = edges_of(prediction, edges, (0, 0, 0), shape)
    # The bits of -0.0 as a float16 are those of a negative number.
    arrays = [np.maximum(array, 0) for array in arrays]
    labels = store.labels(block)
    most = limit.most if limit else MOST_EDGES
    facts = _graph_facts(
        block, labels, arrays, at, (0, 0, 0), prediction.dtype, histograms, sections, most
    )
    store.save(block, labels, {"sizes": bare.graph.sizes, **facts})
    graph = _graph([block], store, bare.numbering, prediction.dtype, histograms, sections, limit)
    return replace(bare, graph=graph)


def bare_supervoxels(fragments: np.ndarray) -> Supervoxels:
    """The same without any edge, for fragments whose segments are known."""
    [block] = grid(fragments.shape, fragments.shape)
    store = MemoryStore(fragments.shape)
    store.array[...] = fragments
    sizes = np.bincount(store.array.reshape(-1))
    numbering = Numbering([np.arange(len(sizes), dtype=np.uint32)], len(sizes) - 1)
    return Supervoxels([block], store, numbering, RegionGraph(np.empty(0, EDGE), None, sizes))


def thick_slabs(
    prediction: np.ndarray | Volume, *, basins: bool, memory: int, threads: int
) -> Index:
    """The shape of blocks that are as thick as memory and threads allow."""
    return slab_shape(
        prediction.shape[-3:],
        # Three affinities, a label, flags; for basins distances, heights and their three pairs.
        bytes_per_voxel=3 * prediction.dtype.itemsize + (30 if basins else 6),
        memory=memory if isinstance(prediction, Volume) else 2**62,
        threads=threads,
    )


def recycled(arrays: list[np.ndarray], like: np.ndarray) -> np.ndarray:
    """One of the arrays that only the list refers to, or a new one like another, which it gets.

    Fresh memory has to be cleared, which takes longer than filling it with labels.
    """
    for place in range(len(arrays)):
        if sys.getrefcount(arrays[place]) == 2:  # the list's, and the argument
            return arrays[place]
    arrays.append(np.empty_like(like))
    return arrays[-1]


def _fragments(
    block: Block,
    prediction: np.ndarray | Volume,
    edges: Sequence[AxisEdge],
    rule: FragmentRule,
    store: Store,
) -> tuple[np.ndarray, Facts, Sequence[np.ndarray], np.ndarray, Index]:
    """A block's labels and facts, and the edges of a region, as of `edges_of`, with its start."""
    shape, dtype = tuple(prediction.shape[-3:]), prediction.dtype
    start, stop = region_of(block, shape) if rule is None else block.grown(shape)
    arrays, at = edges_of(prediction, edges, start, stop)
    if rule is None:
        arrays = legal_edges(arrays, dtype)
        labels, facts = section_fragments(block, arrays, at, dtype, store)
    elif isinstance(rule, Basins):
        arrays = legal_edges(arrays, dtype)
        heights = rule.edges(prediction, edges, start, stop)
        labels, facts, _ = _flooded(block, *heights, start, stop, LIMITS, store)
    else:
        values = limits(dtype, *rule)
        labels, facts, legal = _flooded(block, arrays, at, start, stop, values, store)
        if not legal:
            arrays = legal_edges(arrays, dtype)
            labels, facts, _ = _flooded(block, arrays, at, start, stop, values, store)
    return labels, facts, arrays, at, start


def _flooded(
    block: Block,
    arrays: Sequence[np.ndarray],
    at: np.ndarray,
    start: Sequence[int],
    stop: Sequence[int],
    values: tuple[np.generic, np.generic, np.generic],
    store: Store,
) -> tuple[np.ndarray, Facts, bool]:
    labels = store.buffer(block)
    lead = tuple(b - a for a, b in zip(start, block.start, strict=True))
    depth, height, width = block.shape
    faces = ((height, width), (depth, width), (depth, height))
    joined = [np.zeros(face, np.uint8) for face in faces]
    missing = tuple(int(a == 0) for a in start)
    extent = tuple(b - a for a, b in zip(start, stop, strict=True))
    count, first, sizes, legal = flood(arrays, at, missing, extent, lead, *values, labels, joined)
    inner = [labels.take(0, axis) if lead[axis] else None for axis in range(3)]
    return labels, {"first": first, "sizes": sizes, **face_facts(labels, inner, joined)}, legal


def _graph_facts(
    block: Block,
    labels: np.ndarray,
    arrays: Sequence[np.ndarray],
    at: np.ndarray,
    start: Sequence[int],
    dtype: np.dtype,
    histograms: bool,
    sections: bool,
    edge_limit: int,
) -> Facts:
    inside = at + (np.array(block.start) - start)
    count = int(labels.max(initial=0))
    found, contacts = find_edges(
        labels, arrays, inside, 3, probabilities(dtype), count, edge_limit, histograms
    )
    if len(found) > edge_limit:
        raise TooManyEdges(count, len(found))
    values = []
    for axis, array in enumerate(arrays):
        first = [slice(a, a + size) for a, size in zip(inside[axis], block.shape, strict=True)]
        first[axis] = slice(inside[axis][axis], inside[axis][axis] + 1)
        values.append(array[tuple(first)].take(0, axis) if block.start[axis] else None)
    facts = block_facts(found, contacts if histograms else None, values)
    if sections:
        facts |= section_facts(block, labels, arrays[0], inside[0], probabilities(dtype))
    return facts


def _graph(
    blocks: Sequence[Block],
    store: Store,
    numbering: Numbering,
    dtype: np.dtype,
    histograms: bool,
    sections: bool,
    limit: EdgeLimit | None,
) -> RegionGraph:
    levels = probabilities(dtype)
    most = limit.most if limit and not limit.in_memory else None
    graph = assemble(blocks, store, numbering, levels=levels, histograms=histograms, most=most)
    if sections and (limit is None or len(graph.edges) <= limit.most):
        found = assemble_sections(blocks, store, numbering, levels=levels)
        graph = replace(graph, sections=found)
    store.forget_facts()
    return graph
