"""Decoders and a metric whose outcome a test decides; they travel to child processes."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from emseg.decoding.decoder import Sweeping
from emseg.errors import UserError


def behaving(prediction: np.ndarray, *, way: str = "well", size: float = 0.0) -> np.ndarray:
    """Labels that score `size`, unless it has to be slow, to crash, or to refuse."""
    if way == "slow":
        time.sleep(60)
    elif way == "crash":
        os.abort()
    elif way == "refuse":
        raise UserError("no such thing")
    return np.full(prediction.shape[1:], round(100 * size), np.uint32)


@dataclass(frozen=True, kw_only=True)
class Levelled(Sweeping):
    """Labels that score `gain` less the distance of `level` from 0.3; each call is noted."""

    swept: ClassVar[str] = "level"

    level: float = 0.5
    gain: float = 1.0

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        return next(self.sweep(prediction, [self.level]))[1]

    def sweep(
        self, prediction: np.ndarray, values: Sequence[float]
    ) -> Iterator[tuple[float, np.ndarray]]:
        """(level, labels) for each level."""
        with Path("decodes.txt").open("a") as notes:
            notes.write(f"{self.gain}\n")
        for one in values:
            score = self.score(one)
            yield one, np.full(prediction.shape[1:], round(100 * score), np.uint32)

    def score(self, level: float) -> float:
        return self.gain - abs(level - 0.3)


@dataclass(frozen=True, kw_only=True)
class Spiked(Levelled):
    """Scores 2 at level 0.1, 1 from 0.3 to 0.5, and 0.2 elsewhere."""

    def score(self, level: float) -> float:
        if abs(level - 0.1) < 1e-6:
            return 2.0
        return 1.0 if 0.29 < level < 0.51 else 0.2


def size(segmentation: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """A hundredth of the first label; not a number for label 7."""
    first = int(segmentation.flat[0])
    return {"size": float("nan") if first == 7 else first / 100}
