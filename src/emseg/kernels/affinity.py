"""Affinities of labels: which pairs of voxels belong to one object, and where a pair is stored.

An offset o names pairs of voxels o apart. `source` storage keeps the pair (v, v + o) at v,
`destination` storage keeps (v, v - o) at v.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from emseg.kernels.compiled import kernel

EdgeSide = Literal["source", "destination"]


def affinities(
    labels: np.ndarray,
    *,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
    replicate_boundary: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Affinity values and their validity, one channel per offset.

    Pairs of background are valid zeros.

    Args:
        labels: int32 (Z, Y, X): above 0 an object, 0 background, -1 unlabelled.
        offsets: voxels in array order, of any length and sign.
        edge_side: the end at which a pair is stored, `source` or `destination`.
        replicate_boundary: pairs a voxel with itself where its other end lies outside the volume;
            else mask and value are 0 there.

    Returns:
        values, uint8 (C, Z, Y, X), 1 where both ends have the same id above 0, else 0; and their
        mask, bool, true where the other end lies inside the volume and neither end is unlabelled.

    Raises:
        TypeError: the labels are not int32 (Z, Y, X).
        ValueError: the edge side is another word.
    """
    _require_int32(labels)
    if edge_side not in get_args(EdgeSide):
        raise ValueError(f"edge_side {edge_side!r} must be one of {get_args(EdgeSide)}")
    sign = 1 if edge_side == "source" else -1
    partners = sign * np.array(offsets, dtype=np.int64).reshape(len(offsets), 3)
    values = np.zeros((len(offsets), *labels.shape), np.uint8)
    mask = np.zeros(values.shape, np.bool_)
    if replicate_boundary:
        values[...], mask[...] = labels > 0, labels != -1
    _fill_affinities(np.ascontiguousarray(labels), partners, values, mask)
    return values, mask


def erode_labels(
    labels: np.ndarray, *, radius: Sequence[int], at_background: bool = True
) -> np.ndarray:
    """Labels with a background gap where objects meet: int32 (Z, Y, X), a new array.

    A voxel whose box of 2 * radius + 1 voxels per axis (cut off at the volume's faces) holds two
    different ids becomes 0.

    Args:
        labels: int32 (Z, Y, X); unlabelled voxels (-1) do not count as an id and stay -1.
        radius: voxels, 0 or more, one number per array axis, so that sections can be left alone.
        at_background: whether 0 counts as an id.

    Raises:
        TypeError: the labels are not int32 (Z, Y, X).
        ValueError: the radius is negative or not one number per axis.
    """
    _require_int32(labels)
    if len(radius) != labels.ndim or min(radius) < 0:
        raise ValueError(f"radius {list(radius)} must hold one number >= 0 per axis of the labels")
    if not any(radius):
        return labels.copy()
    eroded = np.empty(labels.shape, np.int32)
    labels = np.ascontiguousarray(labels)
    ids = labels if at_background else np.where(labels == 0, np.int32(-1), labels)
    _erode(labels, ids, np.array(radius, dtype=np.int64), eroded)
    return eroded


def shift_edges(
    array: np.ndarray,
    *,
    offsets: Sequence[Sequence[int]],
    from_side: EdgeSide,
    to_side: EdgeSide,
) -> np.ndarray:
    """The same pairs stored at their other end; the array itself when the sides are equal.

    destination[v] = source[v - o]. The values of pairs that lie partly outside the volume are lost:
    shifting there and back changes only these.

    Args:
        array: (C, Z, Y, X) of any dtype, one channel per offset.
        offsets: voxels in array order.
        from_side, to_side: the edge side of the array, and that of the result.

    Returns:
        (C, Z, Y, X) of the same dtype, 0 at voxels whose pair lies partly outside the volume.
    """
    if from_side == to_side:
        return array
    sign = 1 if to_side == "destination" else -1
    shifted = np.zeros_like(array)
    for channel, offset in enumerate(offsets):
        moves = [(sign * step, size) for step, size in zip(offset, array.shape[1:], strict=True)]
        if any(abs(step) >= size for step, size in moves):
            continue
        to = tuple(slice(max(step, 0), size + min(step, 0)) for step, size in moves)
        at = tuple(slice(max(-step, 0), size - max(step, 0)) for step, size in moves)
        shifted[channel][to] = array[channel][at]
    return shifted


def _require_int32(labels: np.ndarray) -> None:
    if labels.dtype != np.int32 or labels.ndim != 3:
        raise TypeError(f"labels are int32 (Z, Y, X), not {labels.dtype} {labels.shape}")


@kernel
def _fill_affinities(labels, partners, values, mask):
    depth, height, width = labels.shape
    for channel in range(len(partners)):
        dz, dy, dx = partners[channel]
        first, last = max(0, -dx), min(width, width - dx)
        if last <= first:
            continue
        for z in range(max(0, -dz), min(depth, depth - dz)):
            for y in range(max(0, -dy), min(height, height - dy)):
                # Slices of rows, counted from 0, let the compiler use vector instructions.
                here = labels[z, y, first:last]
                there = labels[z + dz, y + dy, first + dx : last + dx]
                value = values[channel, z, y, first:last]
                valid = mask[channel, z, y, first:last]
                for x in range(len(here)):
                    value[x] = (here[x] == there[x]) & (here[x] > 0)
                    valid[x] = (here[x] != -1) & (there[x] != -1)


@kernel
def _erode(labels, ids, radius, eroded):
    depth, height, width = labels.shape
    # The smallest and the largest id of each column of the box. As uint32 -1 is the largest
    # number, as int32 the smallest: voxels without an id change neither result.
    unsigned = ids.view(np.uint32)
    low = np.empty(width, np.uint32)
    high = np.empty(width, np.int32)
    for z in range(depth):
        for y in range(height):
            low[:] = np.uint32(0xFFFFFFFF)
            high[:] = np.int32(-1)
            for bz in range(max(0, z - radius[0]), min(depth, z + radius[0] + 1)):
                for by in range(max(0, y - radius[1]), min(height, y + radius[1] + 1)):
                    row, unsigned_row = ids[bz, by], unsigned[bz, by]
                    for x in range(width):
                        low[x] = min(low[x], unsigned_row[x])
                        high[x] = max(high[x], row[x])
            here, out = labels[z, y], eroded[z, y]
            for x in range(width):
                smallest, largest = low[x], high[x]
                for bx in range(max(0, x - radius[2]), min(width, x + radius[2] + 1)):
                    smallest = min(smallest, low[bx])
                    largest = max(largest, high[bx])
                one = smallest == np.uint32(largest)
                out[x] = here[x] if one or here[x] == -1 else 0
