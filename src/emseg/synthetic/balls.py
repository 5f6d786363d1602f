"""Balls in a grid of voxels, from which neurites and organelles are made."""

from collections.abc import Iterator

import numpy as np

Box = tuple[slice, ...]


def balls_in(
    shape: tuple[int, ...], centres: np.ndarray, radii: np.ndarray, *, voxel_size: np.ndarray
) -> Iterator[tuple[Box, np.ndarray]]:
    """For each ball the box of voxels around it, and the depth of each of these in the ball.

    Args:
        shape: voxels of the grid; voxel i is centred at i times `voxel_size`.
        centres: (N, 3), nm.
        radii: (N,), nm.
        voxel_size: (3,), nm.

    Yields:
        The box, cut at the grid's border, and the depth in nm, negative outside the ball.
    """
    axes = [np.arange(n) * size for n, size in zip(shape, voxel_size, strict=True)]
    reach = np.asarray(radii)[:, None]
    lows = np.clip(np.ceil((centres - reach) / voxel_size), 0, shape).astype(int).tolist()
    highs = np.clip(np.floor((centres + reach) / voxel_size) + 1, 0, shape).astype(int).tolist()
    for centre, radius, low, high in zip(centres, radii, lows, highs, strict=True):
        box = tuple(map(slice, low, high))
        z, y, x = ((axis[part] - c) ** 2 for axis, part, c in zip(axes, box, centre, strict=True))
        yield box, radius - np.sqrt(z[:, None, None] + y[:, None] + x)
