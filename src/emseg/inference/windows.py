"""The one global grid of windows that covers a volume and its padding."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from emseg.errors import UserError


@dataclass(frozen=True)
class WindowGrid:
    """Windows over a volume: the product of the starts per axis, in the volume's own voxels.

    Starts may be negative and windows may end past the volume: the parts outside are padding, and
    are cropped. Every voxel of the volume lies in at least one window.
    """

    shape: tuple[int, ...]
    window: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]

    def batches(self, row: int, size: int) -> list[list[tuple[int, ...]]]:
        """The windows of one start along axis 0, by index into `starts`, in batches of `size`.

        Windows are in lexicographic order, the last axis fastest; no batch contains two rows, so
        that batches do not depend on where the work began.
        """
        columns = itertools.product(*(range(len(starts)) for starts in self.starts[1:]))
        windows = [(row, *column) for column in columns]
        return [windows[first : first + size] for first in range(0, len(windows), size)]

    def corner(self, window: Sequence[int]) -> tuple[int, ...]:
        """The first voxel of a window, which may lie before the volume."""
        return tuple(starts[i] for starts, i in zip(self.starts, window, strict=True))

    def inside(self, axis: int, index: int) -> slice:
        """The part of a window along one axis that lies in the volume, in the window's voxels."""
        start = self.starts[axis][index]
        return slice(max(0, -start), min(self.window[axis], self.shape[axis] - start))


def window_grid(
    shape: Sequence[int],
    *,
    window_size: Sequence[int],
    overlap: float | Sequence[float] = 0.5,
    pad: Sequence[int] | None = None,
    snap_to_edge: bool = False,
) -> WindowGrid:
    """The windows that cover a volume of `shape`, padded by `pad` voxels on both sides.

    Per axis the first window starts at -pad and the next ones every step = max(1, round(window x
    (1 - overlap))) voxels, until the padded end is reached. The last window may end after it, or,
    with `snap_to_edge`, is moved back to end there (as in BANIS: 0, step, 2 step, ..., S - window).
    An axis shorter than its window has one window, which starts at -pad. Windows entirely in the
    padding are left out. Raises UserError if sizes, overlaps or pads are illegal.
    """
    axes = len(shape)
    overlaps = [overlap] * axes if isinstance(overlap, int | float) else list(overlap)
    pads = [0] * axes if pad is None else list(pad)
    for key, values in (
        ("window.window_size", window_size),
        ("window.overlap", overlaps),
        ("pad", pads),
    ):
        if len(values) != axes:
            raise UserError(f"inference.{key} {list(values)}: must have {axes} values, one an axis")
    if min(shape) < 1:
        raise UserError(f"volume of shape {tuple(shape)} is empty: nothing to predict")
    if min(window_size) < 1:
        raise UserError(f"inference.window.window_size {list(window_size)}: must be at least 1")
    if not all(0 <= value < 1 for value in overlaps):
        raise UserError(f"inference.window.overlap {overlap}: must be at least 0 and less than 1")
    if min(pads) < 0:
        raise UserError(f"inference.pad {pads}: must be at least 0")
    starts = tuple(
        _starts(size, window, max(1, round(window * (1 - part))), margin, snap_to_edge)
        for size, window, part, margin in zip(shape, window_size, overlaps, pads, strict=True)
    )
    return WindowGrid(tuple(shape), tuple(window_size), starts)


def _starts(size: int, window: int, step: int, pad: int, snap: bool) -> tuple[int, ...]:
    span = max(0, size + 2 * pad - window)
    starts = [step * i - pad for i in range(math.ceil(span / step) + 1)]
    if snap:
        starts[-1] = span - pad
    return tuple(start for start in starts if -window < start < size)
