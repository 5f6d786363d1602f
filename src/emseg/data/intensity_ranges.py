"""Which part of their range intensities use, and whether it is the one that a network has seen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emseg.data.intensity import Bounds, percentiles_within, to_unit
from emseg.volumes import Volume

# Nearly all: a few hot pixels say nothing of a volume.
MOST = (0.1, 99.9)
# Boxes that are looked at, evenly spaced along axis 0, and the most voxels of one along an axis.
BOXES = 8
LARGEST_BOX = (4, 1024, 1024)
# Images use a small part of their type where they stay below the first share of it, or spread over
# less than the second: 8 or 12 bits in uint16, a mask of 0 and 1 in uint8.
LOW, NARROW = 1 / 8, 1 / 16
# Of the range that two volumes have together, what they share at least where they are alike.
ALIKE = 1 / 4
SETTINGS = "data.intensity_range or data.intensity_percentiles"


@dataclass(frozen=True)
class Intensities:
    """What nearly all voxels of a volume lie between: as stored (`low`, `high`), and what a network
    sees of that (`seen`)."""

    dtype: str
    low: float
    high: float
    seen: tuple[float, float]

    def facts(self) -> dict[str, Any]:
        """The same in plain containers, for checkpoints."""
        return {"dtype": self.dtype, "stored": [self.low, self.high], "seen": [*self.seen]}

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} ({self.dtype})"


def intensities_of(volume: Volume, intensity_range: Sequence[float] | None) -> Intensities:
    """The intensities of a volume, of `BOXES` boxes of it; `intensity_range` as for `to_unit`."""
    low, high = percentiles_within(volume, MOST, _boxes(volume.shape))
    ends = np.array([low, high]).astype(np.float64 if intensity_range else volume.dtype)
    first, last = to_unit(ends, intensity_range=intensity_range).tolist()
    return Intensities(str(volume.dtype), low, high, (first, last))


def together(found: Iterable[Intensities]) -> dict[str, Any]:
    """What several volumes have between them, in plain containers."""
    facts = [one.facts() for one in found]
    hull = {
        key: [min(one[key][0] for one in facts), max(one[key][1] for one in facts)]
        for key in ("stored", "seen")
    }
    return {"dtype": ", ".join(dict.fromkeys(one["dtype"] for one in facts)), **hull}


def small_part(location: str, found: Intensities) -> str | None:
    """A line where a volume uses a small part of its type, so that a network sees little of it.

    It is for volumes of which no setting says what their intensities mean.
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
    """A line where a network sees another range of intensities than in training, else None."""
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
