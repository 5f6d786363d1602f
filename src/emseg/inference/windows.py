"""The one global grid of windows that covers a volume and its padding."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from emseg.errors import UserError
from emseg.inference.settings import Settings


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


def window_grid(shape: Sequence[int], settings: Settings) -> WindowGrid:
    """The windows that cover a volume of `shape`, padded by `settings.pad` voxels on both sides.

    Windows entirely in the padding are left out.

    Raises:
        UserError: an empty volume, or one with another number of axes than a window.
    """
    size = settings.window_size
    if len(shape) != len(size):
        raise UserError(
            f"inference.window.window_size {list(size)}: must have {len(shape)} values, one an axis"
        )
    if min(shape) < 1:
        raise UserError(f"volume of shape {tuple(shape)} is empty: nothing to predict")
    axes = zip(shape, size, settings.overlaps, settings.pads, strict=True)
    starts = tuple(window_starts(*axis, settings.snap_to_edge) for axis in axes)
    return WindowGrid(tuple(shape), tuple(size), starts)


def window_starts(
    size: int, window: int, overlap: float, pad: int, snap_to_edge: bool = False
) -> tuple[int, ...]:
    """Where windows start along an axis of `size` voxels.

    The first starts at -pad and the next ones every step = max(1, round(window x (1 - overlap)))
    voxels, until the padded end is reached. The last one may end after it, or, with `snap_to_edge`,
    is moved back to end there (as in BANIS: 0, step, 2 step, ..., S - window). An axis shorter than
    its window has one window, which starts at -pad.
    """
    step = max(1, round(window * (1 - overlap)))
    span = max(0, size + 2 * pad - window)
    starts = [step * i - pad for i in range(math.ceil(span / step) + 1)]
    if snap_to_edge:
        starts[-1] = span - pad
    return tuple(start for start in starts if -window < start < size)
