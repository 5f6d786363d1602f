"""Copies of transposed arrays."""

import numpy as np

from emseg.kernels.compiled import kernel

# Pixels per side of a square copied at once: one of the two arrays is read or written along its
# columns, and its part in the square must fit the fastest cache. A compile-time constant.
TILE = 8


def in_c_order(array: np.ndarray) -> np.ndarray:
    """A new writeable copy in C order."""
    copy = np.empty(array.shape, array.dtype)
    copy_planes(array, copy)
    return copy


def owned(array: np.ndarray) -> np.ndarray:
    """The array itself if it is writeable and in C order, else a copy that is."""
    flags = array.flags
    return array if flags.writeable and flags.c_contiguous else in_c_order(array)


def copy_planes(array: np.ndarray, into: np.ndarray) -> None:
    """Copies `array` to `into` (..., Z, Y, X), faster than numpy if `array` is transposed.

    Both have one dtype and one shape, of three axes or more; the last three of `into` are in C
    order.
    """
    if array.size == 0 or abs(array.strides[-1]) == array.itemsize:
        into[...] = array
        return
    for place in np.ndindex(array.shape[:-3]):
        _copy_stack(array[place], into[place])


def _copy_stack(array: np.ndarray, into: np.ndarray) -> None:
    steps = [stride // array.itemsize for stride in array.strides]
    reach = [(size - 1) * step for size, step in zip(array.shape, steps, strict=True)]
    first = array[tuple(slice(None, None, -1 if step < 0 else 1) for step in steps)]
    # View it in its order in memory: it is faster if the compiler knows the strides.
    flat = np.lib.stride_tricks.as_strided(
        first, (1 + sum(map(abs, reach)),), (array.itemsize,), writeable=False
    )
    start = -sum(step for step in reach if step < 0)
    _copy_tiles(flat, start, *steps, into)


@kernel
def _copy_tiles(flat, start, step_z, step_y, step_x, out):
    depth, height, width = out.shape
    step = np.uint64(step_x)
    for z in range(depth):
        for top in range(0, height, TILE):
            rows = min(TILE, height - top)
            for left in range(0, width, TILE):
                columns = min(TILE, width - left)
                corner = start + z * step_z + top * step_y + left * step_x
                for y in range(rows):
                    row = out[z, top + y, left : left + columns]
                    # Unsigned, which saves numba's check for negative indices; negative steps
                    # wrap around.
                    at = np.uint64(corner + y * step_y)
                    for x in range(columns):
                        row[x] = flat[at]
                        at += step
