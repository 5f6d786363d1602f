"""Copies of turned arrays."""

import numpy as np
from numba import njit

# Pixels of a square that is copied at once: what is read and written then stays in the nearest
# cache, though one of the two goes down columns.
TILE = 32


def in_c_order(array: np.ndarray) -> np.ndarray:
    """A new writeable copy in C order."""
    copy = np.empty(array.shape, array.dtype)
    copy_planes(array, copy)
    return copy


def copy_planes(array: np.ndarray, into: np.ndarray) -> None:
    """Nothing; `into` (..., Y, X) holds what `array` does: faster than numpy where that is turned.

    Both have one shape and dtype; the rows of `into` lie in C order.
    """
    if abs(array.strides[-1]) == array.itemsize:
        into[...] = array
        return
    for plane in np.ndindex(array.shape[:-2]):
        _copy_plane(array[plane], into[plane])


@njit(cache=True, nogil=True)
def _copy_plane(source, out):
    height, width = source.shape
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = source[top : top + TILE, left : left + TILE]
            to = out[top : top + TILE, left : left + TILE]
            for y in range(len(tile)):
                for x in range(tile.shape[1]):
                    to[y, x] = tile[y, x]
