"""Slow, obvious blending: every window of the whole grid, sums in float64."""

from functools import reduce
from itertools import product

import numpy as np


def stitched(window_values, *, shape, window, starts, weights, offsets, edge_side):
    """The blend (C, *shape) of `window_values(corner)`, (C, *window), over the product of starts.

    An edge that leaves its window along an axis counts there only where no window of the grid has
    that plane's edge inside.
    """
    sign = -1 if edge_side == "destination" else 1
    total = np.zeros((len(offsets), *shape))
    norm = np.zeros((len(offsets), *shape))

    def inside(axis, start, plane, step):
        return all(start <= p < start + window[axis] for p in (plane, plane + sign * step))

    def counts(axis, start, step):
        planes = range(start, start + window[axis])
        others = [[inside(axis, other, p, step) for other in starts[axis]] for p in planes]
        return [
            inside(axis, start, p, step) or not any(seen)
            for p, seen in zip(planes, others, strict=True)
        ]

    for corner in product(*starts):
        values = window_values(corner)
        place = np.indices(window).reshape(len(window), -1) + np.reshape(corner, (-1, 1))
        kept = ((place >= 0) & (place < np.reshape(shape, (-1, 1)))).all(axis=0)
        for channel, offset in enumerate(offsets):
            valid = [counts(axis, start, offset[axis]) for axis, start in enumerate(corner)]
            counted = (weights * reduce(np.multiply.outer, valid)).ravel()
            voxels = (channel, *place[:, kept])
            np.add.at(total, voxels, (counted * values[channel].ravel())[kept])
            np.add.at(norm, voxels, counted[kept])
    return total / norm
