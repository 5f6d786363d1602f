"""Connected components of thresholded affinities."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

import numpy as np

from emseg.blocks.grid import Block, grid
from emseg.blocks.memory import cores
from emseg.blocks.seams import face_facts, number_blocks
from emseg.blocks.store import Store
from emseg.bounds import Fraction
from emseg.decoding.decoder import Blockwise, Sweeping, as_function
from emseg.decoding.edge_flags import edge_flags, open_mask, sides
from emseg.decoding.edges import AxisEdge, Offsets, axis_edges, check_prediction, check_values
from emseg.decoding.node_sweep import node_components
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.components import edge_components
from emseg.progress import track
from emseg.volumes import Volume

# The side on which an edge is stored, by BANIS's `edge_offset`.
_SIDE_OF_OFFSET: dict[int | None, EdgeSide] = {0: "source", 1: "destination"}


@dataclass(frozen=True, kw_only=True)
class AffinityCC(Sweeping, Blockwise):
    """Labels (Z, Y, X) of the components that edges above a threshold form.

    A voxel is foreground if it is an end of an edge that is on, or if a value that it stores itself
    is above the threshold, even one for a pair that leads out of the volume; all other voxels are
    0. The labels are those of the BANIS decoder (but there a mask switches off fewer edges).

    Args:
        prediction: (3, Z, Y, X), probabilities that a pair lies in one object: float32, float16 or
            uint8 (0 to 255); one channel per axis, in any order.
        threshold: an edge is on if its value exceeds this, both as float32 (a uint8 value divided
            by 255).
        affinity_mask_path: a volume (Z, Y, X) that is not 0 where affinities can be trusted. Edges
            with an end outside are off, whichever end stores them, so all outside is 0.
        edge_offset: BANIS's name for the end that stores an edge: 0 its source, 1 its destination.
            None: what the prediction says.
        backend: `torch` computes the same labels on a GPU if there is one, else on the CPU (`cupy`,
            the name that other tools use, means the same).
        offsets, edge_side: of the channels, see `axis_edges`.

    Returns:
        1 + a component's rank by its first voxel in C order: uint32, or uint64 for 2^32 voxels and
            more.

    Raises:
        UserError: a prediction of another kind, an `edge_offset` that contradicts it, or a mask of
            another shape or with channels.
    """

    swept: ClassVar[str] = "threshold"

    threshold: Fraction = 0.5
    affinity_mask_path: str | None = None
    edge_offset: Literal[0, 1] | None = None
    backend: Literal["numba", "torch", "cupy"] = "numba"

    def sweep(
        self,
        prediction: np.ndarray,
        values: Sequence[float],
        *,
        offsets: Offsets,
        edge_side: EdgeSide,
    ) -> Iterator[tuple[float, np.ndarray]]:
        """(threshold, labels); reads the mask only once."""
        edges, mask = self._edges_and_mask(prediction, offsets, edge_side)
        for value in self.ascending(values):
            yield value, self._labels(edge_flags(prediction, edges, value, mask), edges)

    def nodes(
        self,
        prediction: np.ndarray,
        voxels: np.ndarray,
        values: Sequence[float],
        *,
        offsets: Offsets,
        edge_side: EdgeSide,
    ) -> Iterator[tuple[float, np.ndarray]]:
        edges, mask = self._edges_and_mask(prediction, offsets, edge_side)
        ascending = self.ascending(values)
        yield from node_components(prediction, voxels, thresholds=ascending, edges=edges, mask=mask)

    def blocks(
        self,
        prediction: Volume,
        *,
        store: Store,
        block_shape: Sequence[int],
        offsets: Offsets,
        edge_side: EdgeSide,
    ) -> Iterator[tuple[Block, np.ndarray]]:
        check_prediction(prediction, offsets=offsets)
        shape = prediction.shape
        blocks = grid(shape, block_shape)
        missing = [block for block in blocks if not store.done(block)]
        self.label(prediction, missing, store=store, offsets=offsets, edge_side=edge_side)
        numbering = number_blocks(blocks, store, shape)
        for block, ids in zip(blocks, numbering.ids, strict=True):
            yield block, ids[store.labels(block)]

    def label(
        self,
        prediction: Volume,
        blocks: Sequence[Block],
        *,
        store: Store,
        offsets: Offsets,
        edge_side: EdgeSide,
    ) -> None:
        """Labels blocks together with the voxels around them, which show what they continue in."""
        edges, shape = self._edges(offsets, edge_side), prediction.shape
        mask = open_mask(self.affinity_mask_path, shape)
        for block in track(blocks, total=len(blocks), label="components", unit="block"):
            start, stop = block.grown(shape)
            around = prediction.read(start, stop)
            check_values([around], around.dtype)
            trusted = None if mask is None else mask.read(start, stop) != 0
            flags = edge_flags(around, edges, self.threshold, trusted)
            _save(block, start, self._labels(flags, edges), store)

    def _edges_and_mask(
        self, prediction: np.ndarray, offsets: Offsets, edge_side: EdgeSide
    ) -> tuple[Sequence[AxisEdge], np.ndarray | None]:
        check_prediction(prediction, offsets=offsets)
        check_values([prediction], prediction.dtype)
        edges = self._edges(offsets, edge_side)
        mask = open_mask(self.affinity_mask_path, prediction.shape[1:])
        return edges, None if mask is None else mask[...] != 0

    def _edges(self, offsets: Offsets, edge_side: EdgeSide) -> tuple[AxisEdge, AxisEdge, AxisEdge]:
        said = _SIDE_OF_OFFSET.get(self.edge_offset, edge_side)
        if said != edge_side:
            raise UserError(
                f"decoding.edge_offset is {self.edge_offset}, edges stored at their {said}; the "
                f"prediction has them at their {edge_side} (null uses that)"
            )
        return axis_edges(offsets, edge_side)

    def _labels(self, flags: np.ndarray, edges: Sequence[AxisEdge]) -> np.ndarray:
        if self.backend == "numba":
            return edge_components(flags, forward=sides(edges), threads=cores())
        if self.backend == "cupy":
            _say_torch()
        # It brings torch, which takes seconds.
        from emseg.decoding.torch_components import device_components

        return device_components(flags, forward=sides(edges))


def _save(block: Block, start: Sequence[int], labels: np.ndarray, store: Store) -> None:
    """Stores the block's part of the labels of the voxels in and around it."""
    lead = [b - a for a, b in zip(start, block.start, strict=True)]
    inside = tuple(slice(a, a + n) for a, n in zip(lead, block.shape, strict=True))
    own, first = np.unique(labels[inside], return_index=True)
    # Numbers by first voxel, 0 for labels that are not in the block.
    own, first = own[own > 0], first[own > 0]
    order = np.argsort(first)
    numbers = np.zeros(int(labels.max()) + 1, np.uint32)
    numbers[own[order]] = np.arange(1, len(own) + 1, dtype=np.uint32)
    dense = numbers[labels]
    buffer = store.buffer(block)
    buffer[...] = dense[inside]
    # The block's labels of the plane before it: what has one there continues in that block.
    before: list[np.ndarray | None] = []
    for axis in range(3):
        plane = tuple(0 if a == axis else part for a, part in enumerate(inside))
        before.append(dense[plane] if lead[axis] else None)
    facts = face_facts(buffer, before, [p if p is None else (p > 0).view(np.uint8) for p in before])
    store.save(block, buffer, {"first": np.concatenate([[0], first[order]]), **facts})


@cache
def _say_torch() -> None:
    """Says, once per process, that torch is used for cupy."""
    print("emseg: decoding.backend=cupy runs on torch, with the same labels", file=sys.stderr)


affinity_cc = as_function(AffinityCC)
