"""Decoders that give the labels of many thresholds in one pass."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sweep:
    """How to sweep a decoder: a module with a decoder that has one keeps it as `SWEEP`.

    `function` takes what `decoder` takes, with a sequence of values for the decoder's `argument`,
    and yields (value, labels) in ascending order of the values; the labels are the caller's own.
    """

    decoder: Callable[..., np.ndarray]
    argument: str
    function: Callable[..., Iterator[tuple[float, np.ndarray]]]


def sweep_of(decoder: Callable[..., np.ndarray]) -> Sweep | None:
    """The sweep of a decoder function, or None when it has none."""
    sweep = getattr(sys.modules[decoder.__module__], "SWEEP", None)
    return sweep if sweep is not None and sweep.decoder is decoder else None
