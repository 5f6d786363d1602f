"""Components of a voxel graph whose edges are let in from the strongest to the weakest."""

import numpy as np
from numba import njit

from emseg.kernels.components import _join, _root


def flatten(parents: np.ndarray) -> None:
    """Makes every voxel's parent its root; `parents` flat, as `joined_voxels` has them."""
    _flatten(parents)


def edges_by_level(
    values: list[np.ndarray],
    limits: np.ndarray,
    parents: np.ndarray,
    *,
    forward: tuple[bool, bool, bool],
    mask: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(edges, bounds): the edges between voxels of different roots, grouped by their value.

    `values` are per axis (Z, Y, X) of one integer type, `limits` (T,) ascending of that type, 0 or
    more. Group t, from `bounds[0, t]` to `bounds[1, t]`, has the edges above `limits[t]` that are
    not above the next limit; those above the last one, or not above the first, are in none. An
    edge is 3 times its second voxel's place in C order, plus its axis: uint32 where that suffices.
    With a `mask` (Z, Y, X) bool, edges with an end where it is false are in none.

    A counting sort: two passes over the values, and as many places as edges lie between the limits.
    """
    shape = values[0].shape
    table, shift = _coarse_levels(limits)
    room = np.zeros(len(limits) + 1, np.int64)
    for channel in values:
        for plane in channel:
            _count_levels(plane, limits, table, shift, room)
    starts = np.concatenate([[0], np.cumsum(room[1:-1])])
    narrow = 3 * np.prod(shape, dtype=np.int64) < 2**32
    edges = np.empty(starts[-1], np.uint32 if narrow else np.uint64)
    ends = starts[:-1].copy()
    trusted = np.ones((1, 1, 1), np.bool_) if mask is None else mask
    for axis, channel in enumerate(values):
        _sort_edges(
            channel, axis, forward[axis], limits, table, shift, parents, trusted, edges, ends
        )
    return edges, np.stack([starts[:-1], ends])


def join_edges(parents: np.ndarray, edges: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Joins the two voxels of each edge; `parents` flat, edges as of `edges_by_level`."""
    _, height, width = shape
    _join_edges(parents, edges, np.array([height * width, width, 1]))


def roots_of(parents: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Per voxel (N,), given by its place in C order, its root's place + 1: int64."""
    return _roots_of(parents, voxels)


def _coarse_levels(limits: np.ndarray) -> tuple[np.ndarray, int]:
    """(table, shift): a value has at least `table[value >> shift]` limits below it."""
    # The bits of 1 as a float32 are too many for a table, that of halves and bytes is exact.
    shift = 14 if limits.dtype == np.int32 else 0
    largest = {1: 0xFF, 2: 0x3C00, 4: 0x3F800000}[limits.itemsize]
    steps = np.arange((largest >> shift) + 1, dtype=np.int64) << shift
    return np.searchsorted(limits, steps, side="left").astype(np.int32), shift


@njit(cache=True, nogil=True)
def _flatten(parents):
    for voxel in range(len(parents)):
        if parents[voxel]:
            parents[voxel] = parents[np.int64(parents[voxel]) - 1]


@njit(cache=True, nogil=True)
def _level(value, limits, table, shift):
    # The number of limits below the value.
    level = table[value >> shift]
    while level < len(limits) and limits[level] < value:
        level += 1
    return level


@njit(cache=True, nogil=True)
def _count_levels(plane, limits, table, shift, room):
    low, high = limits[0], limits[-1]
    for y in range(plane.shape[0]):
        row = plane[y]
        for x in range(len(row)):
            if low < row[x] and row[x] <= high:
                room[_level(row[x], limits, table, shift)] += 1


@njit(cache=True, nogil=True)
def _sort_edges(values, axis, forward, limits, table, shift, parents, mask, edges, ends):
    depth, height, width = values.shape
    dz, dy, dx = np.int64(axis == 0), np.int64(axis == 1), np.int64(axis == 2)
    step = (dz * height + dy) * width + dx
    low, high = limits[0], limits[-1]
    masked = mask.size == values.size
    for z in range(dz, depth):
        for y in range(dy, height):
            row = values[z - dz, y - dy] if forward else values[z, y]
            # The edge of voxel x is at x, or one before it where it is stored there.
            back = dx if forward else 0
            first = (z * height + y) * width
            for x in range(dx, width):
                value = row[x - back]
                if value <= low or value > high:
                    continue
                here = first + x
                if parents[here] != 0 and parents[here] == parents[here - step]:
                    continue
                if masked and not (mask[z, y, x] and mask[z - dz, y - dy, x - dx]):
                    continue
                group = _level(value, limits, table, shift) - 1
                edges[ends[group]] = 3 * here + axis
                ends[group] += 1


@njit(cache=True, nogil=True)
def _join_edges(parents, edges, steps):
    for at in range(len(edges)):
        edge = np.int64(edges[at])
        here = edge // 3
        _join(parents, here - steps[edge - 3 * here], here)


@njit(cache=True, nogil=True)
def _roots_of(parents, voxels):
    roots = np.empty(len(voxels), np.int64)
    for at in range(len(voxels)):
        voxel = voxels[at]
        roots[at] = voxel + 1 if parents[voxel] == 0 else _root(parents, voxel) + 1
    return roots
