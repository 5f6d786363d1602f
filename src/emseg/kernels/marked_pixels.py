"""Pixels near a marked pixel of their section."""

import numpy as np

from emseg.kernels.compiled import kernel


@kernel
def spread(marked, reaches):
    """The pixels near a marked pixel of the same section: bool (Z, Y, X).

    Args:
        marked: bool (Z, Y, X).
        reaches: int64, not growing, the shape of "near": at k rows from a marked pixel, up to
            `reaches[k]` columns to either side; no pixel at len(reaches) rows or more.
    """
    sections, height, width = marked.shape
    near = np.zeros(marked.shape, np.bool_)
    beside = np.empty((height, width), np.int64)
    far = np.int64(2**40)
    for z in range(sections):
        # Columns to the nearest marked pixel of the row.
        for y in range(height):
            steps = far
            for x in range(width):
                steps = 0 if marked[z, y, x] else steps + 1
                beside[y, x] = steps
            steps = far
            for x in range(width - 1, -1, -1):
                steps = 0 if marked[z, y, x] else steps + 1
                beside[y, x] = min(beside[y, x], steps)
        for y in range(height):
            for other in range(max(0, y - len(reaches) + 1), min(height, y + len(reaches))):
                reach = reaches[abs(y - other)]
                for x in range(width):
                    near[z, y, x] |= beside[other, x] <= reach
    return near
