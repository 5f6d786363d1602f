"""Which part of their range intensities use, and whether it is that of a network's training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emseg.data.intensity import Bounds, percentiles_within, to_unit
from emseg.volumes import Volume

# Nearly all: a few hot pixels do not count.
MOST = (0.1, 99.9)
# The boxes that are read, evenly spaced along axis 0, and the largest size of one along an axis.
BOXES = 8
LARGEST_BOX = (4, 1024, 1024)
# Images use a small part of their type if they stay below the first fraction of it, or their spread
# is less than the second: 8 or 12 bits in uint16, a mask of 0 and 1 in uint8.
LOW, NARROW = 1 / 8, 1 / 16
# The common fraction of two ranges from which on they are alike.
ALIKE = 1 / 4
SETTINGS = "data.intensity_range or data.intensity_percentiles"


@dataclass(frozen=True)
class Intensities:
    """The range of nearly all voxels, as stored (`low`, `high`) and for a network (`seen`)."""

    dtype: str
    low: float
    high: float
    seen: tuple[float, float]

    def facts(self) -> dict[str, Any]:
        """The range in plain containers, for checkpoints."""
        return {"dtype": self.dtype, "stored": [self.low, self.high], "seen": [*self.seen]}

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} ({self.dtype})"


def intensities_of(volume: Volume, intensity_range: Sequence[float] | None) -> Intensities:
    """The intensities of `BOXES` boxes of a volume; `intensity_range` as for `to_unit`."""
    low, high = percentiles_within(volume, MOST, _boxes(volume.shape))
    ends = np.array([low, high]).astype(np.float64 if intensity_range else volume.dtype)
    first, last = to_unit(ends, intensity_range=intensity_range).tolist()
    return Intensities(str(volume.dtype), low, high, (first, last))


def together(found: Iterable[Intensities]) -> dict[str, Any]:
    """The joint range of several volumes, in plain containers."""
    facts = [one.facts() for one in found]
    hull = {
        key: [min(one[key][0] for one in facts), max(one[key][1] for one in facts)]
        for key in ("stored", "seen")
    }
    return {"dtype": ", ".join(dict.fromkeys(one["dtype"] for one in facts)), **hull}


def small_part(location: str, found: Intensities) -> str | None:
    """A line if a volume uses a small part of its type, so that a network sees little contrast.

    It is for volumes without a setting of their intensities.
    """
    low, high = found.seen
    if high >= LOW and high - low >= NARROW:
        return None
    largest = "1" if found.dtype.startswith("float") else f"{np.iinfo(found.dtype).max}"
    return (
        f"{location} has intensities from {found}, a small part of 0 to {largest}, which "
        f"become {low:.3g} to {high:.3g}: if that is not meant, set {SETTINGS}"
    )


def unlike_trained(location: str, found: Intensities, trained: Mapping[str, Any]) -> str | None:
    """A line if a network sees another range of intensities than in training, else None."""
    low, high = found.seen
    first, last = trained["seen"]
    shared = min(high, last) - max(low, first)
    if shared >= ALIKE * (max(high, last) - min(low, first)):
        return None
    stored = "{:g} to {:g}".format(*trained["stored"])
    return (
        f"{location} has intensities from {found}, the training's were {stored} "
        f"({trained['dtype']}): seen as {low:.3g} to {high:.3g} instead of {first:.3g} to "
        f"{last:.3g}; {SETTINGS} can make them alike"
    )


def _boxes(shape: Sequence[int]) -> list[Bounds]:
    size = [min(size, most) for size, most in zip(shape, LARGEST_BOX, strict=True)]
    middle = [(whole - own) // 2 for whole, own in zip(shape[1:], size[1:], strict=True)]
    firsts = np.unique(np.linspace(0, shape[0] - size[0], BOXES).astype(int)).tolist()
    corners = [(first, *middle) for first in firsts]
    return [(corner, tuple(a + b for a, b in zip(corner, size, strict=True))) for corner in corners]
