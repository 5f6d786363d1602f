"""The weights of a window's voxels where windows overlap."""

from collections.abc import Sequence
from functools import reduce

import numpy as np

from emseg.inference.settings import Blending
from emseg.inference.windows import WindowGrid
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.symmetry import Offset, edge_span

# The smallest weight relative to the largest, so that float32 sums lose no voxel.
FLOOR = 1e-3
# Weights are whole numbers: float32 adds up 256 windows of the largest without rounding, and a
# constant prediction remains exactly constant.
SCALE = 1 << 16


def weight_map(window: tuple[int, ...], blending: Blending) -> np.ndarray:
    """The weight of each voxel of a window, float32 whole numbers, at least 1e-3 of the largest.

    `constant`: 1. `gaussian`: sigma of an eighth of the window (MONAI). `bump`: exp(-1/(1 - u^2))
    with u from -1 to 1 over the window and its rim (Wu et al. 2021, chunkflow).
    `distance_transform`: voxels to the nearest face, counted from 1 (BANIS).
    """
    profiles = [_profile(n, blending) for n in window]
    if blending == "distance_transform":
        weights = reduce(np.minimum.outer, profiles)
    else:
        weights = reduce(np.multiply.outer, profiles)
    if blending in ("gaussian", "bump"):
        weights = np.rint(weights * (SCALE / weights.max()))
    return np.maximum(weights, np.ceil(FLOOR * weights.max())).astype(np.float32)


def _profile(n: int, blending: Blending) -> np.ndarray:
    index = np.arange(n)
    if blending == "gaussian":
        return np.exp(-0.5 * ((index - (n - 1) / 2) / (0.125 * n)) ** 2)
    if blending == "bump":
        bump = np.exp(-1 / (1 - (2 * (index + 1) / (n + 1) - 1) ** 2))
        return bump / bump.max()
    if blending == "distance_transform":
        return np.minimum(index + 1, n - index)
    return np.ones(n)


def plane_validity(
    grid: WindowGrid, axis: int, *, offsets: Sequence[Offset], edge_side: EdgeSide
) -> np.ndarray:
    """Which planes of each window along an axis count: float32, 0 or 1.

    One row per window of the axis, of shape (offsets, 1.., planes, 1..), to broadcast to a window.

    A plane whose edges leave the window was never trained: it does not count if another window has
    these edges inside. If no window has them inside (at the volume's face, without padding), the
    plane counts in all windows, so that every voxel has a value.
    """
    starts, n = grid.starts[axis], grid.window[axis]
    inside = np.zeros((len(starts), len(offsets), n), bool)
    covered = np.zeros((len(offsets), starts[-1] + n - starts[0]), bool)
    for channel, offset in enumerate(offsets):
        inside[:, channel, edge_span(n, offset[axis], edge_side=edge_side)] = True
    for i, start in enumerate(starts):
        covered[:, start - starts[0] :][:, :n] |= inside[i]
    for i, start in enumerate(starts):
        inside[i] |= ~covered[:, start - starts[0] :][:, :n]
    across = [1] * len(grid.shape)
    across[axis] = n
    return inside.astype(np.float32).reshape(len(starts), len(offsets), *across)
