"""Blending weights, and sums of weighted windows, for those planes that can still change."""

import math
from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np
import torch

from emseg.errors import UserError
from emseg.inference.settings import Blending, Settings
from emseg.inference.windows import Span, WindowGrid
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.symmetry import Offset, edge_span


class WindowSum:
    """The rolling weighted sum of windows in a region, whose finished planes are taken in order.

    Planes are in a ring buffer along axis 0; the sum of weights is not stored, because it follows
    from the grid.
    """

    def __init__(
        self,
        grid: WindowGrid,
        settings: Settings,
        *,
        device: torch.device | str,
        region: Sequence[Span],
    ) -> None:
        self.grid = grid
        self.region = tuple(region)
        self.next, self.stop = region[0]
        self.dtype = settings.output_dtype
        self.depth = min(grid.shape[0], grid.window[0])
        offsets = settings.offsets
        section = [stop - start for start, stop in region[1:]]
        self.sums = torch.zeros((len(offsets), self.depth, *section), device=device)
        self.weights = torch.from_numpy(weight_map(grid.window, settings.blending)).to(device)
        # Channels with one offset share their weights.
        kinds = list(dict.fromkeys(offsets))
        self.kinds = len(kinds)
        self.kind = torch.tensor([kinds.index(offset) for offset in offsets], device=device)
        self.masks = [
            [
                None if planes.all() else torch.from_numpy(planes).to(device)
                for planes in plane_validity(
                    grid, axis, offsets=kinds, edge_side=settings.edge_side
                )
            ]
            for axis in range(len(grid.shape))
        ]

    def add(self, window: Sequence[int], values: torch.Tensor) -> None:
        """Add one window's values, (C, *window) float32, weighted; nothing outside the region."""
        corner = self.grid.corner(window)
        inside = [self._inside(axis, index) for axis, index in enumerate(window)]
        if any(span.start >= span.stop for span in inside):
            return
        part = values[(slice(None), *inside)] * self.weights[tuple(inside)]
        for axis, index in enumerate(window):
            mask = self.masks[axis][index]
            if mask is not None:
                part *= mask[self.kind].narrow(axis + 1, inside[axis].start, part.shape[axis + 1])
        firsts = [0, *(start for start, _ in self.region[1:])]
        planes, *section = (
            slice(start + span.start - first, start + span.stop - first)
            for start, span, first in zip(corner, inside, firsts, strict=True)
        )
        taken = 0
        for slots in self._slots(planes.start, planes.stop):
            count = slots.stop - slots.start
            self.sums[(slice(None), slots, *section)] += part[:, taken : taken + count]
            taken += count

    def take(self, finished: int) -> Iterator[tuple[int, np.ndarray]]:
        """The planes before `finished` not taken yet, one by one: index and values (C, 1, ...).

        Raises:
            UserError: a value is not finite.
        """
        for plane in range(self.next, finished):
            sums = self.sums[:, plane % self.depth]
            values = self._mean(plane, sums).cpu().numpy()
            sums.zero_()
            self.next = plane + 1
            yield plane, values[:, np.newaxis]

    def _inside(self, axis: int, index: int) -> slice:
        """The part of a window along one axis that counts, in the window's voxels."""
        corner, (first, stop) = self.grid.starts[axis][index], self.region[axis]
        # Planes that were taken count no more.
        first = self.next if axis == 0 else first
        return slice(max(first - corner, 0), min(stop - corner, self.grid.window[axis]))

    def _slots(self, start: int, stop: int) -> Iterator[slice]:
        while start < stop:
            slot = start % self.depth
            count = min(stop - start, self.depth - slot)
            yield slice(slot, slot + count)
            start += count

    def _mean(self, plane: int, sums: torch.Tensor) -> torch.Tensor:
        rows = enumerate(self.grid.starts[0])
        reaching = [(i, plane - a) for i, a in rows if 0 <= plane - a < self.grid.window[0]]
        total = reduce(torch.add, (self._spread(row, index) for row, index in reaching))
        mean = sums / total[self.kind]
        # A single infinite value or NaN makes the sum so.
        if not math.isfinite(float(mean.sum())):
            raise UserError(
                f"network output at plane {plane} is not finite: the weights hold NaN, or "
                "optimization.precision is too narrow for them (bf16-mixed or 32-true is wider)"
            )
        if self.dtype == "uint8":
            return (mean * 255).round().to(torch.uint8)
        return mean.to(getattr(torch, self.dtype))

    def _spread(self, row: int, index: int) -> torch.Tensor:
        """The sum of the weights of a row's windows in one plane, (kinds, *section)."""
        mask = self.masks[0][row]
        weights = self.weights[index].expand(self.kinds, *self.grid.window[1:])
        weights = weights if mask is None else weights * mask[:, index]
        for axis in range(len(self.grid.shape) - 1, 0, -1):
            shape = [*weights.shape]
            first, stop = self.region[axis]
            shape[axis] = stop - first
            total = weights.new_zeros(shape)
            for i, start in enumerate(self.grid.starts[axis]):
                mask, inside = self.masks[axis][i], self._inside(axis, i)
                part = weights if mask is None else weights * mask[:, 0]
                count = inside.stop - inside.start
                if count > 0:
                    total.narrow(axis, start + inside.start - first, count).add_(
                        part.narrow(axis, inside.start, count)
                    )
            weights = total
        return weights


# The smallest weight where a window's centre has 1, as in MONAI, so that sums lose no voxel.
FLOOR = 1e-3
# Weights are whole numbers: float32 adds up 64 windows of the largest without rounding, and a
# constant prediction remains exactly constant.
SCALE = 1 << 18


def weight_map(window: tuple[int, ...], blending: Blending) -> np.ndarray:
    """The weight of each voxel of a window, float32 whole numbers, at least 1e-3 of the centre's.

    `constant`: 1. `gaussian`: sigma of an eighth of the window (MONAI). `bump`: exp(-1/(1 - u^2))
    with u from -1 to 1 over the window and its rim (Wu et al. 2021, chunkflow).
    `distance_transform`: voxels to the nearest face, counted from 1 (BANIS).
    """
    profiles = [_profile(n, blending) for n in window]
    if blending == "distance_transform":
        return reduce(np.minimum.outer, profiles).astype(np.float32)
    weights = reduce(np.multiply.outer, profiles)
    if blending != "constant":
        unit = SCALE / weights.max()
        weights = np.maximum(np.rint(weights * unit), np.ceil(FLOOR * unit))
    return weights.astype(np.float32)


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
