"""Copies of transposed arrays."""

import numpy as np

from emseg.kernels.compiled import kernel

# So many rows are made of columns at once: these, and what is read, must fit the caches.
BAND = 256


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
    """Copies `array` to `into` (..., Z, Y, X), faster than numpy if `array` is turned or reversed.

    Both have one dtype and one shape, of three axes or more.
    """
    if array.size == 0 or array.strides[-1] == array.itemsize:
        into[...] = array
        return
    for place in np.ndindex(array.shape[:-3]):
        _copy_stack(array[place], into[place])


def _copy_stack(array: np.ndarray, into: np.ndarray) -> None:
    # The axis along which neighbours are next to each other in memory.
    near = int(np.argmin(np.abs(array.strides)))
    if abs(array.strides[near]) != array.itemsize or array.itemsize > 4:
        into[...] = array
        return
    if near == 0:
        array, into = array.swapaxes(0, 1), into.swapaxes(0, 1)
    steps = [stride // array.itemsize for stride in array.strides]
    reach = [(size - 1) * step for size, step in zip(array.shape, steps, strict=True)]
    first = array[tuple(slice(None, None, -1 if step < 0 else 1) for step in steps)]
    # View it in its order in memory: it is faster if the compiler knows the strides.
    flat = np.lib.stride_tricks.as_strided(
        first, (1 + sum(map(abs, reach)),), (array.itemsize,), writeable=False
    )
    start, bits = -sum(step for step in reach if step < 0), f"u{array.itemsize}"
    copy = _copy_reversed if near == 2 else _copy_turned
    copy(flat.view(bits), start, *steps, into.view(bits))


@kernel
def _copy_reversed(flat, start, step_z, step_y, _, out):
    depth, height, width = out.shape
    for z in range(depth):
        for y in range(height):
            last = start + z * step_z + y * step_y
            row, source = out[z, y], flat[last - width + 1 : last + 1]
            for x in range(width):
                row[x] = source[np.uint64(width - 1 - x)]


@kernel
def _copy_turned(flat, start, step_z, step_y, step_x, out):
    # Columns of `out` are pieces of memory. As many as fill words of 64 bits are joined, which
    # vector instructions do, and each word is then a part of a row.
    depth, height, width = out.shape
    each, bits = 8 // flat.itemsize, np.uint64(8 * flat.itemsize)
    count = (width + each - 1) // each
    words = np.zeros(BAND, np.uint64)
    # Rows are apart by no power of two, or they would share lines of the cache.
    band = np.empty((BAND, count + 8), np.uint64)
    for z in range(depth):
        for top in range(0, height, BAND):
            rows = min(BAND, height - top)
            first = start + z * step_z + (top if step_y > 0 else 1 - top - rows)
            for x in range(count * each):
                at = first + min(x, width - 1) * step_x
                column = flat[at : at + rows]
                for y in range(rows):
                    word = np.uint64(column[y]) << (np.uint64(64) - bits)
                    words[y] = words[y] >> bits | word
                if (x + 1) % each == 0:
                    for y in range(rows):
                        band[y, x // each] = words[y]
            for y in range(rows):
                row = out[z, top + y]
                source = band[y if step_y > 0 else rows - 1 - y].view(flat.dtype)
                for x in range(width):
                    row[x] = source[x]
