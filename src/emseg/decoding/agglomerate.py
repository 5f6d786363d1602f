"""Watershed and agglomeration: fragments, their region graph, and its hierarchical merging."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.memory import cores, memory_within
from emseg.blocks.store import MemoryStore, Store
from emseg.bounds import Fraction, Positive, above, within
from emseg.decoding.agglomeration.basins import Basins, VoxelSize, spacing_of
from emseg.decoding.agglomeration.branches import (
    check_branch_settings,
    check_sections,
    merge_branches,
    unites_branches,
)
from emseg.decoding.agglomeration.limits import EdgeLimit
from emseg.decoding.agglomeration.merging import (
    MergeFunction,
    MergeTree,
    merge,
    merge_dust,
    segment_labels,
)
from emseg.decoding.agglomeration.region_graph import RegionGraph
from emseg.decoding.agglomeration.supervoxels import (
    FragmentRule,
    Supervoxels,
    find_supervoxels,
    label_blocks,
    recycled,
    thick_slabs,
)
from emseg.decoding.decoder import Blockwise, Sharing, as_function
from emseg.decoding.edges import AxisEdge, LowHigh, Offsets, axis_edges, check_prediction
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.volumes import Volume

Tables = Iterator[tuple[float, np.ndarray]]
_Share = Annotated[float, above(0, 1)]


@dataclass(frozen=True, kw_only=True)
class Agglomerate(Sharing, Blockwise):
    """Labels (Z, Y, X) of a watershed's fragments, merged while their score is below a threshold.

    Labels are uint32, numbered 1, 2, … by their first voxel in C order. Fragments join voxels over
    strong edges, and each voxel to its strongest edge (of equals the first in the order -0, -1, -2,
    +0, +1, +2: axis, before or after). Then the two regions whose contact has the lowest score are
    merged, again and again; contacts of both with a third become one. See docs/decoding.md. (Funke
    et al., "Large scale image segmentation with structured loss", TPAMI 2019; waterz 0.10.)

    Args:
        prediction: (3, Z, Y, X), array or volume (read in blocks), probabilities that a pair lies
            in one object: float32, float16 or uint8 (0 to 255); a channel per axis, in any order.
        thresholds: scores below it are merged: a larger one merges more, 0 nothing.
        merge_function: s in the score 1 - s: `mean`, the mean affinity between two regions;
            `hist_quant_Q`, percentile Q of a histogram of these (256 bins); `affQ_his256`, of the
            largest affinity of each contact of two fragments.
        fragments: `volume`: as above; `basins`: each voxel is joined to its deepest neighbour, see
            `Basins`, which is steadier where channels differ; `sections`: by `flood_section` in
            each section, on 1 minus the mean affinity along axes 1 and 2, without background.
        aff_threshold: for `volume`: edges of at least the second join; voxels with none above the
            first become 0.
        basin_boundary, basin_reach: for `basins`: the largest mean affinity of a boundary voxel;
            how deep, in voxels along their shortest axis, one object is for sure.
        discretize_queue: 256 rounds scores to 256 levels.
        dust_merge_size, dust_merge_affinity: segments of fewer voxels then join a neighbour over
            more than this affinity, strongest contact first.
        iou_threshold to branch_affinity: see `merge_branches`, which then unites segments.
        dust_remove_size: segments of fewer voxels become 0 in the end.
        backend: `waterz` runs the waterz package, and its watershed, in its own process.
        time_limit: seconds, for waterz alone.
        memory_limit: GiB; None: all the memory of machine or cgroup.
        threads: None: all that this process may use. Labels depend neither on it nor on blocks.
        save_graph: the decode stage saves fragments, graph and merge tree, see `SavedGraph`.

    Raises:
        UserError: the region graph does not fit the memory; a setting or the prediction is wrong.
    """

    swept: ClassVar[str] = "thresholds"

    thresholds: Fraction = 0.5
    merge_function: MergeFunction = "aff85_his256"
    fragments: Literal["volume", "basins", "sections"] = "volume"
    aff_threshold: LowHigh = (0.1, 0.999)
    basin_boundary: Fraction = 0.8
    basin_reach: Annotated[float, within(1, 32)] = 4.0
    discretize_queue: Literal[0, 256] = 0
    dust_merge_size: Annotated[int, within(0)] = 0
    dust_merge_affinity: Fraction = 0.3
    dust_remove_size: Annotated[int, within(0)] = 0
    iou_threshold: _Share | None = None
    singleton_size_ratio: Fraction = 0.0
    best_buddy: bool = False
    one_sided_threshold: _Share | None = None
    one_sided_min_size: Annotated[int, within(0)] = 0
    branch_affinity: Fraction = 0.0
    backend: Literal["numba", "waterz"] = "numba"
    time_limit: Annotated[float, above(0)] | None = None
    memory_limit: Annotated[float, above(0)] | None = None
    threads: Positive | None = None
    save_graph: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, only in (("time_limit", "waterz"), ("save_graph", "numba")):
            if getattr(self, name) and self.backend != only:
                raise UserError(f"decoding.{name} is for decoding.backend={only} alone")
        check_branch_settings(self)

    def __call__(
        self,
        prediction: np.ndarray | Volume,
        *,
        offsets: Offsets,
        edge_side: EdgeSide,
        voxel_size: VoxelSize = None,
    ) -> np.ndarray:
        facts = {"offsets": offsets, "edge_side": edge_side, "voxel_size": voxel_size}
        [(_, labels)] = self.sweep(prediction, [self.thresholds], **facts)
        return labels

    def sweep(
        self,
        prediction: np.ndarray | Volume,
        values: Sequence[float],
        *,
        offsets: Offsets,
        edge_side: EdgeSide,
        voxel_size: VoxelSize = None,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """(threshold, labels): all share one watershed, region graph and merge tree."""
        ascending = self.ascending(values)
        self._check(prediction, offsets)
        about = axis_edges(offsets, edge_side), voxel_size
        if self.backend == "waterz":
            from emseg.decoding.agglomeration.by_waterz import found_by_waterz

            found, tables = found_by_waterz(self, prediction, ascending, *about)
        else:
            found = self.supervoxels(prediction, *about)
            tables = self.tables(found.graph, ascending)
        assert isinstance(found.store, MemoryStore)
        labels, made = found.store.array, list[np.ndarray]()
        for threshold, table in tables:
            # The last segmentation may overwrite the fragments.
            out = labels if threshold == ascending[-1] else recycled(made, labels)
            found.relabel_all(table, out, self._threads)
            yield threshold, out
            del out

    def blocks(
        self,
        prediction: Volume,
        *,
        store: Store,
        block_shape: Sequence[int],
        offsets: Offsets,
        edge_side: EdgeSide,
        voxel_size: VoxelSize = None,
    ) -> Iterator[tuple[Block, np.ndarray]]:
        if self.backend == "waterz":
            raise UserError(
                "decoding.backend: a prediction of more than half of system.memory needs numba"
            )
        self._check(prediction, offsets)
        about = axis_edges(offsets, edge_side), voxel_size
        found = self.supervoxels(prediction, *about, store, block_shape)
        [(_, table)] = self.tables(found.graph, [self.thresholds])
        yield from ((block, found.relabelled(at, table)) for at, block in enumerate(found.blocks))

    def label(
        self, prediction: Volume, blocks: Sequence[Block], *, store: Store, **facts: Any
    ) -> None:
        channels = axis_edges(facts["offsets"], facts["edge_side"])
        about = self._about(channels, facts.get("voxel_size"))
        with self.edge_limit.explained():
            label_blocks(prediction, blocks, store=store, threads=self._threads, **about)

    def fragments_key(self) -> Hashable | None:
        if self.backend == "waterz":
            return None  # it does not return its fragments
        of = {
            "volume": tuple(self.aff_threshold),
            "basins": ("basins", self.basin_boundary, self.basin_reach),
            "sections": "sections",
        }[self.fragments]
        return of, self.needs_histograms, unites_branches(self)

    def make_fragments(
        self,
        prediction: np.ndarray | Volume,
        *,
        offsets: Offsets,
        edge_side: EdgeSide,
        voxel_size: VoxelSize = None,
    ) -> tuple[np.ndarray, RegionGraph]:
        self._check(prediction, offsets)
        store = MemoryStore(prediction.shape[-3:])
        found = self.supervoxels(prediction, axis_edges(offsets, edge_side), voxel_size, store)
        found.relabel_all(None, store.array, self._threads)
        return store.array, found.graph

    def tables(self, graph: RegionGraph, values: Sequence[float]) -> Tables:
        ascending = self.ascending(values)
        tree = self.tree(graph, ascending[-1])
        for threshold in ascending:
            yield threshold, self.table(graph, tree.roots(threshold))

    def tree(self, graph: RegionGraph, until: float) -> MergeTree:
        """The merge tree of a graph of `make_fragments`, of all scores below `until`."""
        return merge(
            graph,
            merge_function=self.merge_function,
            until=until,
            discretize_queue=self.discretize_queue,
            threads=self._threads,
            memory=self.memory,
        )

    def table(self, graph: RegionGraph, roots: np.ndarray) -> np.ndarray:
        """The label of each fragment's segment, uint32, numbered by the segments' first voxels."""
        if self.dust_merge_size:
            roots = merge_dust(
                graph,
                roots,
                merge_function=self.merge_function,
                below=self.dust_merge_size,
                affinity=self.dust_merge_affinity,
            )
        if unites_branches(self):
            assert graph.sections is not None
            roots = merge_branches(graph.sections, roots, self)
        return segment_labels(graph, roots, least=self.dust_remove_size)

    def supervoxels(
        self,
        prediction: np.ndarray | Volume,
        channels: Sequence[AxisEdge],
        voxel_size: VoxelSize,
        store: Store | None = None,
        block_shape: Sequence[int] | None = None,
    ) -> Supervoxels:
        """The fragments of our watersheds and their graph; by default in memory, in slabs."""
        basins, memory = self.fragments == "basins", self.memory // 8
        slabs = thick_slabs(prediction, basins=basins, memory=memory, threads=self._threads)
        with self.edge_limit.explained():
            return find_supervoxels(
                prediction,
                store=MemoryStore(prediction.shape[-3:]) if store is None else store,
                block_shape=block_shape or slabs,
                threads=self._threads,
                **self._about(channels, voxel_size),
            )

    def _about(self, channels: Sequence[AxisEdge], voxel_size: VoxelSize) -> dict[str, Any]:
        """What the fragments and their graph depend on, and the most edges that it may have."""
        rule: FragmentRule = self.aff_threshold if self.fragments == "volume" else None
        if self.fragments == "basins":
            rule = Basins(self.basin_boundary, self.basin_reach, spacing_of(voxel_size))
        return {
            "edges": channels,
            "rule": rule,
            "histograms": self.needs_histograms,
            "sections": unites_branches(self),
            "limit": self.edge_limit,
        }

    def _check(self, prediction: np.ndarray | Volume, offsets: Offsets) -> None:
        check_prediction(prediction, offsets=offsets)
        if unites_branches(self):
            check_sections(prediction.shape[-3])

    @property
    def needs_histograms(self) -> bool:
        return self.merge_function.startswith("hist_quant_")

    @property
    def edge_limit(self) -> EdgeLimit:
        ends = self.aff_threshold if self.fragments == "volume" else None
        more = self.needs_histograms, unites_branches(self), self.dust_merge_size > 0
        return EdgeLimit(self.memory, ends, *more)

    @property
    def memory(self) -> int:
        return memory_within(self.memory_limit)

    @property
    def _threads(self) -> int:
        return self.threads or cores()


agglomerate = as_function(Agglomerate)
