"""The components of some voxels at many thresholds, from one pass over the edges."""

from collections.abc import Iterator, Sequence

import numpy as np

from emseg.blocks.memory import cores
from emseg.decoding.edge_flags import edge_flags, ordered, sides
from emseg.decoding.edges import AxisEdge, largest_off
from emseg.kernels.components import joined_voxels
from emseg.kernels.descending import (
    edges_by_level,
    join_edges,
    roots_of,
    strongest_edges,
)


def node_components(
    prediction: np.ndarray,
    voxels: np.ndarray,
    *,
    thresholds: Sequence[float],
    edges: Sequence[AxisEdge],
    mask: np.ndarray | None,
) -> Iterator[tuple[float, np.ndarray]]:
    """(threshold, segments): int64, the component of each of the voxels (N, 3), 0 for none.

    `thresholds` ascend. Each edge is added once, from the highest threshold to the lowest: those
    above the highest in the order of the volume, which makes pieces; of the others only those
    between two pieces and above the lowest threshold are sorted. Takes 4 bytes per voxel, 4 per
    piece (one voxel or more) and 8 to 20 per edge between pieces.
    """
    values = _integers(prediction)
    limits = np.array([largest_off(prediction.dtype, one) for one in thresholds], prediction.dtype)
    limits = _integers(limits)
    flags = edge_flags(prediction, edges, thresholds[-1], mask)
    pieces = joined_voxels(flags, forward=sides(edges), threads=cores())
    del flags
    channels = tuple(values[edge.channel] for edge in edges)
    trusted = np.ones((1, 1, 1), np.bool_) if mask is None else mask
    slabs, count = edges_by_level(
        channels, limits, pieces, forward=sides(edges), mask=trusted, threads=cores()
    )
    strongest = strongest_edges(channels, sides(edges), voxels, trusted)
    roots, asked = np.arange(count, dtype=pieces.dtype), pieces[tuple(voxels.T)]
    del pieces
    segments: list[np.ndarray] = []
    for level in reversed(range(len(thresholds))):
        for found, bounds in slabs:
            join_edges(roots, found[bounds[level] : bounds[level + 1]])
        on = strongest > limits[level]
        segments.append(np.where(on, roots_of(roots, asked) + 1, 0))
    yield from zip(thresholds, reversed(segments), strict=True)


def _integers(values: np.ndarray) -> np.ndarray:
    """The bits of the probabilities as integers, which have the same order."""
    return values.view(np.int32) if values.dtype == np.float32 else ordered(values)
