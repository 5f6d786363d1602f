"""Watershed and agglomeration: fragments, their region graph, and its hierarchical merging."""

import inspect
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.store import MemoryStore, Store
from emseg.decoding.branches import BranchRules
from emseg.decoding.decoder_forms import Blockwise, Sharing, Sweep
from emseg.decoding.edges import check_prediction
from emseg.decoding.merging import MergeFunction
from emseg.decoding.region_graph import RegionGraph
from emseg.decoding.rules import Fragments, Rules
from emseg.decoding.segments import (
    relabel_all,
    segment_tables,
    supervoxels,
    waterz_segments,
)
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.volumes import Volume


def agglomerate(
    prediction: np.ndarray | Volume,
    *,
    thresholds: float = 0.5,
    merge_function: MergeFunction = "aff85_his256",
    fragments: Fragments = "volume",
    aff_threshold: tuple[float, float] = (0.1, 0.999),
    discretize_queue: Literal[0, 256] = 0,
    dust_merge_size: int = 0,
    dust_merge_affinity: float = 0.3,
    dust_remove_size: int = 0,
    iou_threshold: float | None = None,
    singleton_size_ratio: float = 0.0,
    best_buddy: bool = False,
    one_sided_threshold: float | None = None,
    one_sided_min_size: int = 0,
    branch_affinity: float = 0.0,
    backend: Literal["numba", "waterz"] = "numba",
    time_limit: float | None = None,
    memory_limit: float | None = None,
    threads: int | None = None,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> np.ndarray:
    """Labels (Z, Y, X) of a watershed's fragments, merged while their score is below a threshold.

    `prediction` (3, Z, Y, X), an array or a volume that is read block by block, holds probabilities
    that a pair lies in one object: float32, float16 or uint8 (0 to 255); one channel per axis, in
    any order, see `axis_edges`. Labels are uint32, numbered 1, 2, … by their first voxel in C
    order, and do not depend on blocks or `threads` (None: all that this process may use).

    Fragments join voxels over edges of at least `aff_threshold[1]`, and each voxel to its strongest
    edge (of equals the first in the order -0, -1, -2, +0, +1, +2: axis, before or after); a voxel
    with no edge above `aff_threshold[0]` is background, 0 (0 <= low < high <= 1). With `fragments`
    `sections`, `flood_section` grows them in each section (axis 0) without background, on 1 minus
    the mean affinity along axes 1 and 2. Then the two regions whose contact has the lowest score
    are merged, again and again, while it is below `thresholds`, in [0, 1]: a larger one merges
    more, 0 nothing. The score is 1 - s; by `merge_function` s is: `mean`, the mean affinity between
    the two; `hist_quant_Q`, percentile Q of a histogram of these (256 bins); `affQ_his256`, of a
    histogram of the largest affinity of each contact of two fragments. If two merging regions touch
    a third, the contact with the higher score is added to the other, which is scored again when it
    is next. Equal scores are taken in the order in which they were queued, at first by fragments.
    `discretize_queue` 256 rounds scores to 256 levels, 0 does not.

    Segments of fewer than `dust_merge_size` voxels then join a neighbour, strongest contact first,
    over more than `dust_merge_affinity`. Segments that end at a section (axis 0) and continue as
    others are united, see `merge_branches`: by `iou_threshold` and `singleton_size_ratio`,
    `best_buddy`, `one_sided_threshold` and `one_sided_min_size`; overlaps need a mean affinity of
    at least `branch_affinity`. Segments of fewer than `dust_remove_size` voxels then become 0.

    Raises UserError if the region graph does not fit `memory_limit` (GiB; None: all the memory of
    machine or cgroup). `backend` `waterz` runs the waterz package instead, in its own process with
    that memory and `time_limit` seconds; its watershed treats plateaus differently.

    Funke et al., "Large scale image segmentation with structured loss", TPAMI 2019; waterz 0.10.
    """
    given = locals()
    rules = _rules({name: given[name] for name in _DEFAULTS})
    [(_, labels)] = _segmentations(prediction, [thresholds], rules, offsets, edge_side)
    return labels


def agglomerate_sweep(
    prediction: np.ndarray | Volume,
    *,
    thresholds: Sequence[float],
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    **arguments: Any,
) -> Iterator[tuple[float, np.ndarray]]:
    """(threshold, labels), ascending, as of `agglomerate`, whose other `arguments` it takes.

    All share one watershed, region graph and merge tree: each threshold is only a relabelling.
    """
    yield from _segmentations(prediction, thresholds, _rules(arguments), offsets, edge_side)


def agglomerate_blocks(
    prediction: Volume,
    *,
    thresholds: float = 0.5,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    store: Store,
    block_shape: Sequence[int],
    **arguments: Any,
) -> Iterator[tuple[Block, np.ndarray]]:
    """(block, its labels) of what `agglomerate` returns, in C order of blocks of `block_shape`.

    Labels of blocks are held in the store. With a store on disk no array is as large as the volume,
    and a decode that was killed continues with the blocks that are not done.
    """
    rules = _rules(arguments)
    if rules.backend == "waterz":
        raise UserError(
            "decoding.backend: waterz takes a volume as a whole, blocks need numba (a prediction "
            "comes in blocks when it fills more than half of system.memory)"
        )
    rules.check_thresholds([thresholds])
    _check(prediction, rules, offsets)
    found = supervoxels(prediction, rules, offsets, edge_side, store, block_shape)
    [(_, table)] = segment_tables(found.graph, [thresholds], rules)
    for number, block in enumerate(found.blocks):
        yield block, found.relabelled(number, table)


def _fragments(
    prediction: np.ndarray | Volume,
    *,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    **arguments: Any,
) -> tuple[np.ndarray, RegionGraph]:
    """(labels, graph) of the fragments; they depend on the arguments in `_sharing_key`."""
    rules, store = _rules(arguments), MemoryStore(prediction.shape[-3:])
    _check(prediction, rules, offsets)
    shape = rules.block_shape(prediction)
    found = supervoxels(prediction, rules, offsets, edge_side, store, shape)
    relabel_all(found, None, store.array, rules.thread_count)
    return store.array, found.graph


def _segment_tables(
    graph: RegionGraph, *, thresholds: Sequence[float], **arguments: Any
) -> Iterator[tuple[float, np.ndarray]]:
    """(threshold, table), ascending: table[f] is the label of the segment with the fragment f."""
    rules = _rules(arguments)
    rules.check_thresholds(thresholds)
    yield from segment_tables(graph, thresholds, rules)


def _sharing_key(arguments: Mapping[str, Any]) -> Hashable | None:
    rules = _rules(arguments)
    if rules.backend == "waterz":
        return None  # it does not return its fragments
    of = tuple(rules.aff_threshold) if rules.fragments == "volume" else rules.fragments
    return of, rules.needs_histograms, rules.branches.active


_BRANCHES = [field.name for field in fields(BranchRules)]
_DEFAULTS = {
    name: inspect.signature(agglomerate).parameters[name].default
    for name in (*_BRANCHES, *(field.name for field in fields(Rules)))
    if name != "branches"
}


def _rules(arguments: Mapping[str, Any]) -> Rules:
    given = _DEFAULTS | dict(arguments)
    branches = BranchRules(**{name: given.pop(name) for name in _BRANCHES})
    return Rules(**given, branches=branches)


BLOCKWISE = Blockwise(decoder=agglomerate, function=agglomerate_blocks)
SWEEP = Sweep(
    decoder=agglomerate,
    argument="thresholds",
    function=agglomerate_sweep,
    sharing=Sharing(key=_sharing_key, fragments=_fragments, tables=_segment_tables),
)


def _segmentations(
    prediction: np.ndarray | Volume,
    thresholds: Sequence[float],
    rules: Rules,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> Iterator[tuple[float, np.ndarray]]:
    rules.check_thresholds(thresholds)
    _check(prediction, rules, offsets)
    ascending = sorted(set(thresholds))
    if rules.backend == "waterz":
        found, tables = waterz_segments(prediction, ascending, rules, offsets, edge_side)
    else:
        store, shape = MemoryStore(prediction.shape[-3:]), rules.block_shape(prediction)
        found = supervoxels(prediction, rules, offsets, edge_side, store, shape)
        tables = segment_tables(found.graph, ascending, rules)
    labels = found.store.array
    for threshold, table in tables:
        # The last segmentation may overwrite the fragments.
        last = threshold == ascending[-1]
        out = labels if last else np.empty_like(labels)
        relabel_all(found, table, out, rules.thread_count)
        yield threshold, out


def _check(prediction: np.ndarray | Volume, rules: Rules, offsets: Sequence[Sequence[int]]) -> None:
    check_prediction(prediction, offsets=offsets)
    rules.branches.check_sections(prediction.shape[-3:])
