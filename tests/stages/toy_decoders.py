"""Decoders and a metric whose outcome a test decides; they travel to child processes."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from emseg.decoding.decoder_forms import Sweep
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


def levelled(prediction: np.ndarray, *, level: float = 0.5, gain: float = 1.0) -> np.ndarray:
    """Labels that score `gain` less the distance of `level` from 0.3; each call is noted."""
    return next(levelled_sweep(prediction, level=[level], gain=gain))[1]


def levelled_sweep(
    prediction: np.ndarray, *, level: Sequence[float], gain: float = 1.0
) -> Iterator[tuple[float, np.ndarray]]:
    """(level, labels) of `levelled` for each level."""
    with Path("decodes.txt").open("a") as notes:
        notes.write(f"{gain}\n")
    for one in level:
        score = gain - abs(one - 0.3)
        yield one, np.full(prediction.shape[1:], round(100 * score), np.uint32)


SWEEP = Sweep(decoder=levelled, argument="level", function=levelled_sweep)


def size(segmentation: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """A hundredth of the first label; not a number for label 7."""
    first = int(segmentation.flat[0])
    return {"size": float("nan") if first == 7 else first / 100}
