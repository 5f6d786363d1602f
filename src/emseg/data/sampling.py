"""From a sample index to a patch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emseg.errors import UserError

# A volume's number, and the corner of a crop in it.
Place = tuple[int, tuple[int, ...]]
# The most draws for a patch: if all are rejected, foreground is too rare for random draws.
MOST_DRAWS = 50


def resolve_range(bounds: Sequence[float], size: int) -> tuple[int, int]:
    """The voxels (start, stop) that `bounds` means on an axis of `size` voxels.

    Args:
        bounds: [start, stop]. Two integers are voxels; if either is a float, both are fractions of
            the axis, rounded to the nearest voxel, so that [0.0, 0.8] and [0.8, 1.0] together cover
            the axis.
        size: voxels.

    Raises:
        UserError: the range is empty, exceeds the axis, or has not two ends.
    """
    if len(bounds) != 2:
        raise UserError(f"range {list(bounds)} must be [start, stop]")
    start, stop = bounds
    if isinstance(start, float) or isinstance(stop, float):
        if not 0 <= start < stop <= 1:
            raise UserError(
                f"range [{start}, {stop}] of fractions must be 0 <= start < stop <= 1 "
                "(whole voxels are written without a decimal point)"
            )
        start, stop = (math.floor(fraction * size + 0.5) for fraction in (start, stop))
    if not 0 <= start < stop <= size:
        raise UserError(f"range {list(bounds)} holds no voxel of an axis of {size} voxels")
    return int(start), int(stop)


def sample_generator(*, seed: int, namespace: int, index: int) -> np.random.Generator:
    """The random numbers of one sample: a pure function of its three arguments.

    Namespaces separate streams with the same seed (training and validation, say).
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(namespace, index))
    return np.random.Generator(np.random.SFC64(sequence))


@dataclass(frozen=True)
class RejectSampling:
    """Random rejection of patches with little foreground (the sampling of PyTorch Connectomics).

    If a fraction f of all patches has enough, 1 / (f + (1 - f)(1 - p)) are drawn for each accepted
    one.

    Attributes:
        size_thres: voxels of foreground; patches with fewer may be rejected.
        p: the probability that they are.
    """

    size_thres: int
    p: float

    def draw(
        self,
        places: Callable[[], Place],
        has_foreground: Callable[[Place], bool],
        rng: np.random.Generator,
    ) -> tuple[Place, "Draws"]:
        """The first of the `places` that is not rejected, or the last of `MOST_DRAWS`."""
        for number in range(1, MOST_DRAWS + 1):
            place = places()
            foreground = has_foreground(place)
            if foreground or rng.random() >= self.p:
                return place, Draws(number, foreground=foreground, accepted=True)
        return place, Draws(MOST_DRAWS, foreground=False, accepted=False)


@dataclass(frozen=True)
class Draws:
    """How a patch was found: `number` of draws, enough `foreground`, or just the last draw."""

    number: int
    foreground: bool
    accepted: bool


class CropPositions:
    """Where a crop of one size may start in several volumes, and how likely each volume is.

    A volume of `shapes` is drawn by its weight, or by its number of valid positions if `weights` is
    None; the corner is uniform over the valid positions. On an axis shorter than the crop the one
    position centres the volume in the crop: its start is negative.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        *,
        crop: Sequence[int],
        weights: Sequence[float] | None = None,
    ) -> None:
        spare = np.array(shapes, dtype=np.int64) - np.array(crop, dtype=np.int64)
        self._first = np.where(spare < 0, spare // 2, 0)
        self._count = np.maximum(spare, 0) + 1
        chances = np.prod(self._count, axis=1, dtype=np.float64) if weights is None else weights
        reach = np.cumsum(chances)
        self._reach = reach / reach[-1]

    def draw(self, rng: np.random.Generator) -> Place:
        """The volume's number and the corner of one random crop."""
        volume = int(np.searchsorted(self._reach, rng.random(), side="right"))
        corner = self._first[volume] + rng.integers(self._count[volume])
        return volume, tuple(int(start) for start in corner)
