"""Fragments, and the tables from fragments to segments, by our own code or by waterz."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from emseg.blocks.store import MemoryStore, Store
from emseg.decoding.branches import merge_branches
from emseg.decoding.edges import axis_edges, check_values, destination_affinities
from emseg.decoding.merging import merge, merge_dust
from emseg.decoding.region_graph import RegionGraph
from emseg.decoding.rules import Rules
from emseg.decoding.supervoxels import (
    Supervoxels,
    TooManyEdges,
    bare_supervoxels,
    find_supervoxels,
    given_supervoxels,
    in_parallel,
)
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.progress import phase
from emseg.volumes import Volume


def supervoxels(
    prediction: np.ndarray | Volume,
    rules: Rules,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    store: Store,
    block_shape: Sequence[int],
) -> Supervoxels:
    """The fragments of our watersheds and their graph. Raises UserError if that is too large."""
    with _refusals(rules):
        return find_supervoxels(
            prediction,
            edges=axis_edges(offsets, edge_side),
            aff_threshold=rules.aff_threshold if rules.fragments == "volume" else None,
            histograms=rules.needs_histograms,
            sections=rules.unites_branches,
            store=store,
            block_shape=block_shape,
            threads=rules.thread_count,
            edge_limit=rules.edge_limit,
        )


@contextmanager
def _refusals(rules: Rules) -> Iterator[None]:
    try:
        yield
    except TooManyEdges as error:
        raise UserError(rules.refusal(error.fragments, error.edges)) from error


def segment_tables(
    graph: RegionGraph, thresholds: Sequence[float], rules: Rules
) -> Iterator[tuple[float, np.ndarray]]:
    """(threshold, table), ascending: table[f], uint32, is the label of fragment f's segment."""
    ascending = sorted(set(thresholds))
    with phase(f"merging {len(graph.sizes) - 1} fragments with {len(graph.edges)} contacts"):
        tree = merge(
            graph,
            merge_function=rules.merge_function,
            until=ascending[-1],
            discretize_queue=rules.discretize_queue,
        )
    for threshold in ascending:
        yield threshold, segment_table(graph, tree.roots(threshold), rules)


def segment_table(graph: RegionGraph, roots: np.ndarray, rules: Rules) -> np.ndarray:
    """The label of each fragment's segment, uint32, numbered by the segments' first voxels."""
    if rules.dust_merge_size:
        roots = merge_dust(
            graph,
            roots,
            merge_function=rules.merge_function,
            below=rules.dust_merge_size,
            affinity=rules.dust_merge_affinity,
        )
    if rules.unites_branches:
        assert graph.sections is not None
        roots = merge_branches(graph.sections, roots, rules)
    sizes = np.bincount(roots, weights=graph.sizes, minlength=len(roots))
    # A root is the smallest fragment of its segment; fragments are in the order of first voxels.
    large_enough = (roots == np.arange(len(roots))) & (sizes >= rules.dust_remove_size)
    large_enough[0] = False
    return np.where(large_enough, np.cumsum(large_enough), 0).astype(np.uint32)[roots]


def waterz_segments(
    prediction: np.ndarray | Volume,
    thresholds: Sequence[float],
    rules: Rules,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> tuple[Supervoxels, Iterator[tuple[float, np.ndarray]]]:
    """The fragments that the waterz package merges, and (threshold, table) as of `segment_tables`.

    The fragments are by waterz, or ours if they are made section by section.
    """
    from emseg.decoding.waterz_child import waterz_partitions

    whole = prediction[...] if isinstance(prediction, Volume) else prediction
    check_values([whole], whole.dtype)
    given = None
    if rules.fragments == "sections":
        store, shape = MemoryStore(whole.shape[1:]), rules.block_shape(whole)
        ours = supervoxels(whole, rules, offsets, edge_side, store, shape)
        given = store.array
        relabel_all(ours, None, given, rules.thread_count)
    fragments, partitions = waterz_partitions(
        destination_affinities(whole, offsets=offsets, edge_side=edge_side),
        thresholds,
        merge_function=rules.merge_function,
        aff_threshold=rules.aff_threshold,
        discretize_queue=rules.discretize_queue,
        time_limit=rules.time_limit,
        memory_limit=rules.memory_bytes,
        fragments=given,
    )
    found = bare_supervoxels(fragments)
    if rules.dust_merge_size or rules.unites_branches:
        with _refusals(rules):
            found = given_supervoxels(
                fragments,
                whole,
                edges=axis_edges(offsets, edge_side),
                histograms=rules.needs_histograms,
                sections=rules.unites_branches,
                edge_limit=rules.edge_limit,
            )
    tables = (
        (threshold, segment_table(found.graph, roots.astype(np.int32), rules))
        for threshold, roots in partitions
    )
    return found, tables


def relabel_all(
    found: Supervoxels, table: np.ndarray | None, out: np.ndarray, threads: int
) -> None:
    """Fills `out` with table[f] for each fragment f of a volume, or f; it may be the fragments."""
    if table is None:
        table = np.arange(found.numbering.count + 1, dtype=np.uint32)

    def one(number: int) -> None:
        found.relabelled(number, table, out[found.blocks[number].slices])

    in_parallel(one, range(len(found.blocks)), threads=threads, label="segments")
