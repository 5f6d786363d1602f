"""Predictions of other programs: numbers of any type, where some number stands for 1."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from emseg.errors import UserError
from emseg.progress import track
from emseg.volumes import Volume, from_array

# The dtypes that decoders take without conversion, and the number that stands for 1 there.
_TAKEN = {np.dtype(np.uint8): 255.0, np.dtype(np.float16): 1.0, np.dtype(np.float32): 1.0}
# Bytes of the planes that are checked together.
_SLAB = 1 << 26


def usual_scale(dtype: np.dtype) -> float | None:
    """The number that usually stands for a probability of 1 in this dtype, or None."""
    return 1.0 if dtype.kind in "fb" else _TAKEN.get(dtype)


def as_decoders_take_it(stored: Volume, scale: float) -> Volume:
    """The volume (C, Z, Y, X), still lazy, with `scale` converted to what decoders take as 1.

    A volume without channels gets one. Dtypes that decoders do not take become float32.
    """
    if _TAKEN.get(stored.dtype) == scale and stored.channels is not None:
        return stored
    return converted(stored, partial(_divided, scale=scale))


def converted(stored: Volume, convert: Callable[..., np.ndarray]) -> Volume:
    """The volume as (C, Z, Y, X) of float32, still lazy.

    `convert(values, first=c)` is called with what is read, whose first channel is number c.
    """
    source: Any = _Converted(stored, convert)
    return from_array(source, axes="c" + stored.axes, voxel_size=stored.voxel_size)


@dataclass(frozen=True, eq=False)
class _Converted:
    stored: Volume
    convert: Callable[..., np.ndarray]
    dtype: np.dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.stored.channels or 1, *self.stored.shape)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        first, *start = (part.start for part in region)
        last, *stop = (part.stop for part in region)
        if self.stored.channels is None:
            return self.convert(self.stored.read(start, stop)[None], first=first)
        read = self.stored.read(start, stop, channels=range(first, last))
        return self.convert(read, first=first)


def _divided(values: np.ndarray, *, first: int, scale: float) -> np.ndarray:
    return np.divide(values, np.float32(scale), dtype=np.float32)


def check_stored_values(stored: Volume, *, scale: float, logits: bool) -> None:
    """Raises UserError if the numbers contradict the settings.

    Allowed are `logits` of any size, or numbers from 0 to `scale`; no NaN. Reads the volume once.
    """
    low, high = np.inf, -np.inf
    for block in _slabs(stored):
        smallest, largest = float(block.min()), float(block.max())
        if np.isnan(smallest):
            raise UserError(f"{stored.location} has NaN among its values: correct the file")
        low, high = min(low, smallest), max(high, largest)
    if logits:
        return
    if low < 0 or high > scale:
        raise UserError(
            f"{stored.location} runs from {low:g} to {high:g}, not from 0 to {scale:g} as "
            "probabilities do: set inference.prediction.scale to the number that stands for 1 "
            "(such as 255), or inference.prediction.values to logit"
        )
    if stored.dtype == np.uint8 and high == 1 < scale:
        raise UserError(
            f"{stored.location} holds only 0 and 1, but 1 would mean 1/{scale:g}: set "
            "inference.prediction.scale=1"
        )


def _slabs(stored: Volume) -> Iterator[np.ndarray]:
    depth, *section = stored.shape
    plane = (stored.channels or 1) * int(np.prod(section)) * stored.dtype.itemsize
    planes = max(1, _SLAB // plane)
    starts = range(0, depth, planes)
    voxels = planes * int(np.prod(section))
    for start in track(starts, total=len(starts), label="check", unit="voxel", each=voxels):
        yield stored.read([start, 0, 0], [min(start + planes, depth), *section])
