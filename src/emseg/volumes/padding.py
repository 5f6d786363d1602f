"""Regions that reach outside a volume."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from emseg.errors import unknown_name
from emseg.volumes.volume import Volume

PaddingMode = Literal["reflect", "replicate", "constant"]


def read_padded(
    volume: Volume,
    start: Sequence[int],
    stop: Sequence[int],
    *,
    mode: PaddingMode,
) -> np.ndarray:
    """A region (Z, Y, X) or (C, Z, Y, X) with voxels outside the volume filled in.

    Only voxels that are needed are read.

    Args:
        start, stop: voxels in stored-axis order, which may lie outside the volume.
        mode: `reflect` mirrors at the first and last voxel, repeatedly if the region extends far
            (an axis of one voxel is replicated); `replicate` repeats the face; `constant` is 0: as
            numpy's pad modes reflect, edge and constant.

    Raises:
        UserError: another mode.
        ValueError: the region is empty.
    """
    if not all(a < b for a, b in zip(start, stop, strict=True)):
        raise ValueError(f"region {tuple(start)} to {tuple(stop)} is empty")
    if mode not in get_args(PaddingMode):
        raise unknown_name("padding mode", mode, get_args(PaddingMode))
    if mode == "constant":
        return _zero_padded(volume, start, stop)
    index = _mirrored if mode == "reflect" else _clamped
    sources = [
        index(np.arange(a, b), size) for a, b, size in zip(start, stop, volume.shape, strict=True)
    ]
    first = [int(source.min()) for source in sources]
    block = volume.read(first, [int(source.max()) + 1 for source in sources])
    for axis, (source, low) in enumerate(zip(sources, first, strict=True)):
        size = block.shape[axis - 3]
        if not np.array_equal(source - low, np.arange(size)):
            block = np.take(block, source - low, axis=axis - 3)
    return block


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    place = index % period
    return np.minimum(place, period - place)


def _clamped(index: np.ndarray, size: int) -> np.ndarray:
    return np.clip(index, 0, size - 1)


def _zero_padded(volume: Volume, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
    channels = [] if volume.channels is None else [volume.channels]
    shape = [b - a for a, b in zip(start, stop, strict=True)]
    low = [max(a, 0) for a in start]
    high = [min(b, size) for b, size in zip(stop, volume.shape, strict=True)]
    if low == list(start) and high == list(stop):
        return volume.read(low, high)
    out = np.zeros([*channels, *shape], volume.dtype)
    if all(a < b for a, b in zip(low, high, strict=True)):
        inner = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        out[..., *inner] = volume.read(low, high)
    return out
