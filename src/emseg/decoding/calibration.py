"""Calibration of predictions before decoding: biases on their logits, and a temperature."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from emseg.decoding.stored_values import converted
from emseg.errors import UserError
from emseg.volumes import Volume


@dataclass(frozen=True)
class Calibration:
    """Probabilities sigmoid((z + b) / T) of logits z: a bias b for each channel, a temperature T.

    Without `biases` all are 0. A bias below 0 makes affinities weaker, hence more segments; a
    temperature above 1 moves them towards 0.5. Raises UserError if a number is not finite, or the
    temperature not above 0. (Guo et al. 2017, "On calibration of modern neural networks"; dbMiM
    chooses biases for z, y, x.)
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

        `array`, whose first channel is number `first`, holds `logits`, or probabilities (uint8:
        divided by 255) whose logits are log(p) - log(1 - p), so that 0 and 1 do not change.
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
    """The calibration set by a decoder's `biases` and `temperature`, None without both.

    Biases of 0 count as set: they turn logits into probabilities.
    """
    biases, temperature = decoding.get("biases"), decoding.get("temperature", 1.0)
    if biases is None and temperature == 1:
        return None
    return Calibration(None if biases is None else tuple(biases), temperature)


def calibrated(prediction: Volume, calibration: Calibration, *, logits: bool) -> Volume:
    """The prediction (C, Z, Y, X) as calibrated float32, still lazy."""
    calibration.check(prediction.channels or 1)
    return converted(prediction, partial(calibration, logits=logits))
