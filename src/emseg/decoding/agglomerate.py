"""Watershed and agglomeration: fragments, their region graph, and its hierarchical merging."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.store import MemoryStore, Store
from emseg.bounds import Fraction
from emseg.decoding.decoder import Blockwise, Sharing, as_function
from emseg.decoding.edges import check_prediction
from emseg.decoding.region_graph import RegionGraph
from emseg.decoding.rules import Rules
from emseg.decoding.segments import relabel_all, segment_tables, supervoxels, waterz_segments
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Agglomerate(Rules, Sharing, Blockwise):
    """Labels (Z, Y, X) of a watershed's fragments, merged while their score is below a threshold.

    `prediction` (3, Z, Y, X), an array or a volume that is read block by block, holds probabilities
    that a pair lies in one object: float32, float16 or uint8 (0 to 255); one channel per axis, in
    any order, see `axis_edges`. Labels are uint32, numbered 1, 2, … by their first voxel in C
    order, and do not depend on blocks or `threads` (None: all that this process may use).

    Fragments join voxels over edges of at least `aff_threshold[1]`, and each voxel to its strongest
    edge (of equals the first in the order -0, -1, -2, +0, +1, +2: axis, before or after); a voxel
    with no edge above `aff_threshold[0]` is background, 0. With `fragments` `sections`,
    `flood_section` grows them in each section (axis 0) without background, on 1 minus the mean
    affinity along axes 1 and 2. Then the two regions whose contact has the lowest score are merged,
    again and again, while it is below `thresholds`: a larger one merges more, 0 nothing. The score
    is 1 - s; by `merge_function` s is: `mean`, the mean affinity between the two; `hist_quant_Q`,
    percentile Q of a histogram of these (256 bins); `affQ_his256`, of a histogram of the largest
    affinity of each contact of two fragments. If two merging regions touch a third, the contact
    with the higher score is added to the other, which is scored again when it is next. Equal scores
    are taken in the order in which they were queued, at first by fragments. `discretize_queue` 256
    rounds scores to 256 levels, 0 does not.

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

    swept: ClassVar[str] = "thresholds"

    thresholds: Fraction = 0.5

    def __call__(
        self,
        prediction: np.ndarray | Volume,
        *,
        offsets: Sequence[Sequence[int]],
        edge_side: EdgeSide,
    ) -> np.ndarray:
        found = self.sweep(prediction, [self.thresholds], offsets=offsets, edge_side=edge_side)
        [(_, labels)] = found
        return labels

    def sweep(
        self,
        prediction: np.ndarray | Volume,
        values: Sequence[float],
        *,
        offsets: Sequence[Sequence[int]],
        edge_side: EdgeSide,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """(threshold, labels): all share one watershed, region graph and merge tree."""
        ascending = self.ascending(values)
        self._check(prediction, offsets)
        if self.backend == "waterz":
            found, tables = waterz_segments(prediction, ascending, self, offsets, edge_side)
        else:
            store, shape = MemoryStore(prediction.shape[-3:]), self.block_shape(prediction)
            found = supervoxels(prediction, self, offsets, edge_side, store, shape)
            tables = segment_tables(found.graph, ascending, self)
        labels = found.store.array
        for threshold, table in tables:
            # The last segmentation may overwrite the fragments.
            last = threshold == ascending[-1]
            out = labels if last else np.empty_like(labels)
            relabel_all(found, table, out, self.thread_count)
            yield threshold, out

    def blocks(
        self,
        prediction: Volume,
        *,
        store: Store,
        block_shape: Sequence[int],
        offsets: Sequence[Sequence[int]],
        edge_side: EdgeSide,
    ) -> Iterator[tuple[Block, np.ndarray]]:
        if self.backend == "waterz":
            raise UserError(
                "decoding.backend: waterz takes a volume as a whole, blocks need numba (a "
                "prediction comes in blocks when it fills more than half of system.memory)"
            )
        self._check(prediction, offsets)
        found = supervoxels(prediction, self, offsets, edge_side, store, block_shape)
        [(_, table)] = segment_tables(found.graph, [self.thresholds], self)
        for number, block in enumerate(found.blocks):
            yield block, found.relabelled(number, table)

    def fragments_key(self) -> Hashable | None:
        if self.backend == "waterz":
            return None  # it does not return its fragments
        of = tuple(self.aff_threshold) if self.fragments == "volume" else self.fragments
        return of, self.needs_histograms, self.unites_branches

    def cut(
        self,
        prediction: np.ndarray | Volume,
        *,
        offsets: Sequence[Sequence[int]],
        edge_side: EdgeSide,
    ) -> tuple[np.ndarray, RegionGraph]:
        self._check(prediction, offsets)
        store, shape = MemoryStore(prediction.shape[-3:]), self.block_shape(prediction)
        found = supervoxels(prediction, self, offsets, edge_side, store, shape)
        relabel_all(found, None, store.array, self.thread_count)
        return store.array, found.graph

    def tables(
        self, graph: RegionGraph, values: Sequence[float]
    ) -> Iterator[tuple[float, np.ndarray]]:
        yield from segment_tables(graph, self.ascending(values), self)

    def _check(self, prediction: np.ndarray | Volume, offsets: Sequence[Sequence[int]]) -> None:
        check_prediction(prediction, offsets=offsets)
        self.check_sections(prediction.shape[-3:])


agglomerate = as_function(Agglomerate)
