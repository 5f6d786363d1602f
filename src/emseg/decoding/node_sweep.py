"""The components of some voxels at many thresholds, from one pass over the edges."""

from collections.abc import Iterator, Sequence

import numpy as np

from emseg.blocks.memory import cores
from emseg.decoding.edge_flags import edge_flags, ordered, sides
from emseg.decoding.edges import AxisEdge, largest_off
from emseg.kernels.components import joined_voxels
from emseg.kernels.descending import edges_by_level, join_edges, number_pieces, roots_of


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
    roots = np.arange(number_pieces(pieces.reshape(-1)), dtype=pieces.dtype)
    channels = [values[edge.channel] for edge in edges]
    found, bounds = edges_by_level(
        channels, limits, pieces, forward=sides(edges), mask=mask, threads=cores()
    )
    strongest = _strongest(channels, voxels, forward=sides(edges), mask=mask)
    asked = pieces[tuple(voxels.T)]
    del pieces
    segments: list[np.ndarray] = []
    for level in reversed(range(len(thresholds))):
        join_edges(roots, found[bounds[level] : bounds[level + 1]])
        on = strongest > limits[level]
        segments.append(np.where(on, roots_of(roots, asked) + 1, 0))
    yield from zip(thresholds, reversed(segments), strict=True)


def _integers(values: np.ndarray) -> np.ndarray:
    """The bits of the probabilities as integers, which have the same order."""
    return values.view(np.int32) if values.dtype == np.float32 else ordered(values)


def _strongest(
    channels: Sequence[np.ndarray],
    voxels: np.ndarray,
    *,
    forward: Sequence[bool],
    mask: np.ndarray | None,
) -> np.ndarray:
    """Per voxel (N,) the highest value that makes it foreground, -1 where the mask is false."""
    shape = np.array(channels[0].shape)
    strongest = np.full(len(voxels), -1, np.int64)
    for axis, channel in enumerate(channels):
        unit = np.arange(3) == axis
        step = unit if forward[axis] else -1 * unit
        for stored, other in ((voxels, voxels + step), (voxels - step, voxels - step)):
            # A voxel's own value counts even where its edge leads out of the volume.
            inside = ((stored >= 0) & (stored < shape)).all(axis=1)
            value = np.full(len(voxels), -1, np.int64)
            value[inside] = channel[tuple(stored[inside].T)]
            if mask is not None:
                there = ((other >= 0) & (other < shape)).all(axis=1)
                value[there] = np.where(mask[tuple(other[there].T)], value[there], -1)
            strongest = np.maximum(strongest, value)
    return strongest if mask is None else np.where(mask[tuple(voxels.T)], strongest, -1)
