"""Predictions as decoders take them: probabilities from stored numbers, calibrated if asked."""

import math
from collections.abc import Callable, Iterator, Mapping
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
    """The volume (C, Z, Y, X), still lazy, in a dtype and scale that decoders take.

    Args:
        stored: without channels it gets one; a dtype that decoders do not take becomes float32.
        scale: the stored number that stands for a probability of 1.
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
    """Check that the numbers agree with the settings; reads the volume once.

    Args:
        scale: the largest number allowed, 0 being the least, unless they are logits.
        logits: whether they are logits, of any size.

    Raises:
        UserError: NaN, numbers out of range, or uint8 of 0 and 1 alone with a larger `scale`.
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


@dataclass(frozen=True)
class Calibration:
    """Probabilities sigmoid((z + b) / T) of logits z: a bias b for each channel, a temperature T.

    (Guo et al. 2017, "On calibration of modern neural networks"; dbMiM chooses biases for z, y, x.)

    Attributes:
        biases: one below 0 makes affinities weaker, hence more segments. None: all are 0.
        temperature: one above 1 moves affinities towards 0.5.

    Raises:
        UserError: a number is not finite, or the temperature not above 0.
    """

    biases: tuple[float, ...] | None
    temperature: float

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise UserError(f"decoding.temperature is {self.temperature}; it must be above 0")
        if self.biases is not None and not all(map(math.isfinite, self.biases)):
            raise UserError(f"decoding.biases {list(self.biases)} must be finite numbers")

    def check(self, channels: int) -> None:
        """Raises UserError if there is not one bias for each of the channels."""
        if self.biases is not None and len(self.biases) != channels:
            raise UserError(
                f"decoding.biases {list(self.biases)} must have one bias for each of the "
                f"{channels} channels that the decoder gets"
            )

    def __call__(self, array: np.ndarray, *, logits: bool, first: int = 0) -> np.ndarray:
        """Calibrated probabilities, float32 (C, Z, Y, X).

        Args:
            array: (C, Z, Y, X), logits, or probabilities (uint8: divided by 255) whose logits are
                log(p) - log(1 - p), so that 0 and 1 do not change.
            first: the number of the array's first channel.
        """
        scale = 255 if array.dtype == np.uint8 else 1
        values = np.divide(array, np.float32(scale), dtype=np.float32)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if not logits:
                values = np.log(values) - np.log1p(-values)
            for channel, own in enumerate(values, first):
                own += np.float32(self.biases[channel] if self.biases else 0)
            values /= np.float32(-self.temperature)
            np.exp(values, out=values)
            values += 1
            return np.divide(1, values, out=values)


def calibration_of(decoding: Mapping[str, Any]) -> Calibration | None:
    """The calibration set by a decoder's settings.

    Args:
        decoding: the settings, `biases` and `temperature` perhaps among them; biases of 0 count as
            set: they turn logits into probabilities.

    Returns:
        None if both are missing, null or 1.
    """
    biases, temperature = decoding.get("biases"), decoding.get("temperature", 1.0)
    if biases is None and temperature == 1:
        return None
    return Calibration(None if biases is None else tuple(biases), temperature)


def calibrated(prediction: Volume, calibration: Calibration, *, logits: bool) -> Volume:
    """The prediction (C, Z, Y, X) as calibrated float32, still lazy.

    Raises:
        UserError: there are more or fewer biases than channels.
    """
    calibration.check(prediction.channels or 1)
    return converted(prediction, partial(calibration, logits=logits))
