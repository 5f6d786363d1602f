"""The components in which some voxels lie, at many thresholds, from one pass over the edges."""

from collections.abc import Iterator, Sequence

import numpy as np

from emseg.decoding.edge_flags import check_threshold, cores, edge_flags, ordered, sides
from emseg.decoding.edges import AxisEdge, largest_off
from emseg.kernels.components import joined_voxels
from emseg.kernels.descending import edges_by_level, flatten, join_edges, roots_of


def node_components(
    prediction: np.ndarray,
    voxels: np.ndarray,
    *,
    thresholds: Sequence[float],
    edges: Sequence[AxisEdge],
    mask: np.ndarray | None,
) -> Iterator[tuple[float, np.ndarray]]:
    """(threshold, segments), ascending: the component of each of the voxels (N, 3), 0 for none.

    The components are those of `affinity_cc`, by other numbers: int64, 1 + the place of the first
    voxel in C order. `prediction` as there, checked; `mask` (Z, Y, X) bool or None.

    The volume's edges are let in once, from the greatest threshold to the least, and at each only
    the voxels are looked up: 0 where no value that a voxel stores, and no edge that leads to it,
    exceeds the threshold, else the root. What exceeds the greatest threshold is joined in the
    order of the volume, and of the rest only what lies between the thresholds is sorted.
    """
    for threshold in thresholds:
        check_threshold(threshold)
    ascending = sorted(set(thresholds))
    shape = prediction.shape[1:]
    values = _integers(prediction)
    limits = np.array([largest_off(prediction.dtype, one) for one in ascending], prediction.dtype)
    limits = _integers(limits)
    flags = edge_flags(prediction, edges, ascending[-1], mask)
    parents = joined_voxels(flags, forward=sides(edges), threads=cores()).reshape(-1)
    del flags
    flatten(parents)
    channels = [values[edge.channel] for edge in edges]
    # Equal limits make empty groups.
    found, bounds = edges_by_level(channels, limits, parents, forward=sides(edges), mask=mask)
    strongest = _strongest(channels, voxels, forward=sides(edges), mask=mask)
    places = np.ravel_multi_index(tuple(voxels.T), shape)
    segments: list[np.ndarray] = []
    for level in reversed(range(len(ascending))):
        if level < len(ascending) - 1:
            start, stop = bounds[:, level]
            join_edges(parents, found[start:stop], shape)
        on = strongest > limits[level]
        segments.append(np.where(on, roots_of(parents, places), 0))
    yield from zip(ascending, reversed(segments), strict=True)


def _integers(values: np.ndarray) -> np.ndarray:
    """Integers in the order of the probabilities, which their bits are."""
    return values.view(np.int32) if values.dtype == np.float32 else ordered(values)


def _strongest(
    channels: Sequence[np.ndarray],
    voxels: np.ndarray,
    *,
    forward: Sequence[bool],
    mask: np.ndarray | None,
) -> np.ndarray:
    """Per voxel (N,) the greatest value that makes it foreground, -1 where the mask is false."""
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
