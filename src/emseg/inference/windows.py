"""The one global grid of windows that covers a volume, and the size of windows if none is set."""

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from emseg.errors import UserError
from emseg.inference.settings import Settings

# The first voxel along an axis, and the one after the last.
Span = tuple[int, int]


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

    def meets(self, window: Sequence[int], region: Sequence[Span]) -> bool:
        """Whether a window has voxels in the region."""
        spans = zip(self.corner(window), self.window, region, strict=True)
        return all(at < stop and at + size > start for at, size, (start, stop) in spans)


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


# A window is at most this many times as long as the training patch. Norms over space (group,
# instance, response) depend on the window's size, and what was trained on patches is valid only for
# windows not much larger. Still larger windows would save little time.
GROWTH = 2.0
# The most voxels of a window: a batch should not take minutes on a CPU.
MOST_VOXELS = 1 << 21
# To predict, networks need memory for 3 (Swin UNETR) to 11 (RSUNet) float32 tensors of the size of
# their largest, measured on a CPU; a larger number here makes windows smaller.
TENSORS = 12
_STEPS = 16


def choose_window(
    shape: Sequence[int],
    *,
    least: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    overlap: float | Sequence[float] | None,
    fits: Callable[[Sequence[int]], bool],
    square: Sequence[tuple[int, int]] = (),
) -> tuple[int, ...]:
    """The size of windows for a volume of `shape`, the same for the same arguments.

    Windows grow from `least` equally along all axes up to `GROWTH` times its size, but not beyond
    the padded volume, and only as far as it reduces the number of windows.

    Args:
        shape: of the volume, in voxels, as are `least`, `stride` and `pad`.
        least: the training patch; it is taken, rounded up to `stride`, if no larger window fits.
        stride: windows are multiples of it.
        pad: on both sides of the volume.
        overlap: as in `Settings`; None: neighbours share half a training patch.
        fits: whether a window of a size is allowed; `MOST_VOXELS` is a limit too.
        square: pairs of axes along which windows are equally long.
    """
    stride = _common(stride, square)
    least = _multiple(_squared(least, square), stride)
    padded = [n + 2 * p for n, p in zip(shape, pad, strict=True)]

    def count(size: Sequence[int], axis: int) -> int:
        part = overlap_of(size, least, overlap)
        each = part if isinstance(part, tuple) else (part,) * len(size)
        return len(window_starts(shape[axis], size[axis], each[axis], pad[axis]))

    for step in range(_STEPS, -1, -1):
        factor = 1 + (GROWTH - 1) * step / _STEPS
        wanted = [min(factor * a, max(a, b)) for a, b in zip(least, padded, strict=True)]
        size = _multiple(_squared(wanted, square), stride)
        for axis in range(len(size)):
            size = _shortest(size, axis, least[axis], stride[axis], count)
        size = _squared(size, square)
        if size == least or (math.prod(size) <= MOST_VOXELS and fits(size)):
            break
    return tuple(size)


def least_window(
    patch: Sequence[int], stride: Sequence[int], square: Sequence[tuple[int, int]] = ()
) -> tuple[int, ...]:
    """The training patch, rounded up to multiples of the stride.

    Args:
        patch, stride: in voxels.
        square: pairs of axes that views exchange, which become equally long.
    """
    return tuple(_multiple(_squared(patch, square), _common(stride, square)))


def overlap_of(
    size: Sequence[int], patch: Sequence[int], overlap: float | Sequence[float] | None
) -> float | tuple[float, ...]:
    """The overlap as parts of windows, for each axis or one for all.

    Args:
        size, patch: of a window and of the training patch, in voxels.
        overlap: returned as it is; None: half the patch, and at most half the window.
    """
    if overlap is not None:
        return overlap if isinstance(overlap, int | float) else tuple(overlap)
    parts = tuple(min(0.5, b / (2 * a)) for a, b in zip(size, patch, strict=True))
    return 0.5 if set(parts) == {0.5} else parts


def bytes_per_voxel(net: nn.Module, in_channels: int, size: Sequence[int]) -> int:
    """About how many bytes the network needs for each voxel of a window while it predicts.

    `TENSORS` times its largest output in float32 for an image of `size` (voxels), found on the meta
    device.

    Raises:
        UserError: the network does not run on the meta device.
    """
    largest = 0

    def note(module: nn.Module, arguments: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel())

    measured = copy.deepcopy(net).to("meta")
    for module in measured.modules():
        module.register_forward_hook(note)
    try:
        with torch.no_grad():
            measured(torch.empty((1, in_channels, *size), device="meta"))
    except Exception as error:  # Some networks need values, which a meta tensor does not have.
        raise UserError(
            "inference.window.window_size: this model cannot be measured to choose a window "
            f"({type(error).__name__}: {error}); set it, to {list(size)} for the training patch"
        ) from error
    return 4 * TENSORS * -(-largest // math.prod(size))


def _shortest(
    size: list[int],
    axis: int,
    least: int,
    stride: int,
    count: Callable[[Sequence[int], int], int],
) -> list[int]:
    """The size, made as short along one axis as it can be without more windows along it."""
    while size[axis] - stride >= least:
        shorter = [*size]
        shorter[axis] -= stride
        if count(shorter, axis) > count(size, axis):
            break
        size = shorter
    return size


def _squared(size: Sequence[float], square: Sequence[tuple[int, int]]) -> list[float]:
    longest = [*size]
    for pair in [*square, *square]:  # twice, since pairs may share axes
        for axis in pair:
            longest[axis] = max(longest[other] for other in pair)
    return longest


def _common(stride: Sequence[int], square: Sequence[tuple[int, int]]) -> list[int]:
    common = [*stride]
    for pair in [*square, *square]:
        for axis in pair:
            common[axis] = math.lcm(*(common[other] for other in pair))
    return common


def _multiple(size: Sequence[float], stride: Sequence[int]) -> list[int]:
    return [math.ceil(a / step) * step for a, step in zip(size, stride, strict=True)]
