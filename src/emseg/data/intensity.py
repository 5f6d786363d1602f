"""Intensities of images: ranges and percentiles of a volume, checks, and what a network sees."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emseg.errors import UserError
from emseg.kernels.copies import owned
from emseg.kernels.intensity_levels import scale_levels
from emseg.volumes import Volume

# Voxels that are checked together: 64 MB of float32.
SLAB_VOXELS = 1 << 24
# For volumes with more voxels, percentiles are those of evenly spaced slabs.
MOST_VOXELS = 1 << 30
# Levels between the extremes for values other than integers of 16 bits or fewer.
LEVELS = 1 << 16

# The first voxel of a slab, and one past the last.
Bounds = tuple[tuple[int, ...], tuple[int, ...]]


def to_unit(array: np.ndarray, *, intensity_range: Sequence[float] | None = None) -> np.ndarray:
    """The intensities as new float32 in [0, 1], same shape.

    Args:
        array: unsigned integers are divided by their dtype's maximum, floats are used as they are,
            unless there is a range.
        intensity_range: (lo, hi): lo becomes 0 and hi 1, and values outside are clipped.
    """
    if intensity_range is None:
        if array.dtype.kind == "f":
            return array.astype(np.float32)
        scale = np.float32(1 / np.iinfo(array.dtype).max)
        if array.dtype != np.uint8:
            return np.multiply(array, scale, dtype=np.float32)
        levels, unit = owned(array), np.empty(array.shape, np.float32)
        scale_levels(levels.reshape(-1), scale, unit.reshape(-1))
        return unit
    low, high = intensity_range
    unit = (array.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    return np.clip(unit, 0, 1, out=unit)


def range_of(
    volume: Volume,
    *,
    intensity_range: Sequence[float] | None = None,
    intensity_percentiles: Sequence[float] | None = None,
) -> tuple[float, float] | None:
    """The `intensity_range` for `to_unit`: the given one, or the volume's percentiles.

    Args:
        volume: is read only for percentiles.
        intensity_range: (lo, hi), for volumes without percentiles.
        intensity_percentiles: two, 0 to 100, of all voxels and channels, with linear interpolation
            as in numpy; for types other than integers of up to 16 bits to within 2^-16 of their
            extent. For more than `MOST_VOXELS` values they are those of evenly spaced slabs.

    Returns:
        (lo, hi), or None if neither is given.

    Raises:
        UserError: both percentiles have the same value.
    """
    if intensity_percentiles is None:
        return None if intensity_range is None else (intensity_range[0], intensity_range[1])
    low, high = _percentiles(volume, intensity_percentiles)
    if not low < high:
        raise UserError(
            f"data.intensity_percentiles: {list(intensity_percentiles)} are both {low:g} in "
            f"{volume.location}"
        )
    return low, high


def check_intensities(
    volume: Volume,
    *,
    intensity_range: Sequence[float] | None = None,
    intensity_percentiles: Sequence[float] | None = None,
) -> None:
    """Check that `to_unit` can bring the volume to [0, 1]; arguments as for `range_of`.

    Floats are read once, slab by slab.

    Raises:
        UserError: the range is empty; the volume holds no numbers, or NaN or infinity; without
            range or percentiles: it is signed, or floats are outside [0, 1].
    """
    explained = intensity_range is not None or intensity_percentiles is not None
    if intensity_range is not None and not intensity_range[0] < intensity_range[1]:
        raise UserError(
            f"data.intensity_range {list(intensity_range)} must be [lo, hi] with lo < hi"
        )
    kind = volume.dtype.kind
    if kind not in "uif":
        raise UserError(f"{volume.location} holds {volume.dtype}, which is no image")
    if kind == "i" and not explained:
        raise UserError(
            f"{volume.location} holds signed {volume.dtype}: set data.intensity_range=[lo,hi]"
        )
    if kind == "f":
        _check_floats(volume, bounded=not explained)


def slabs(volume: Volume) -> Iterator[np.ndarray]:
    """The volume's voxels in slabs along axis 0 of whole planes, each small enough for memory."""
    for start, stop in slab_bounds(volume):
        yield volume.read(start, stop)


def slab_bounds(volume: Volume) -> Iterator[Bounds]:
    """The first voxel of every slab and one past its last, in order."""
    depth, *plane = volume.shape
    thickness = max(1, SLAB_VOXELS // max(1, int(np.prod(plane)) * (volume.channels or 1)))
    for start in range(0, depth, thickness):
        yield (start, 0, 0), (min(start + thickness, depth), *plane)


def _check_floats(volume: Volume, *, bounded: bool) -> None:
    low, high = np.inf, -np.inf
    for slab in slabs(volume):
        least, most = float(slab.min()), float(slab.max())
        # NaN and infinity both appear in the extremes.
        if not (np.isfinite(least) and np.isfinite(most)):
            raise UserError(f"{volume.location} holds NaN or infinite values")
        low, high = min(low, least), max(high, most)
    if bounded and not (low >= 0 and high <= 1):
        raise UserError(
            f"{volume.location} reaches from {low:g} to {high:g}, not within [0, 1]: "
            f"set data.intensity_range=[{low:g},{high:g}] or a range of your choice"
        )


def _percentiles(volume: Volume, percentiles: Sequence[float]) -> tuple[float, float]:
    bounds = list(slab_bounds(volume))
    voxels = int(np.prod(volume.shape)) * (volume.channels or 1)
    bounds = bounds[:: max(1, -(-voxels // MOST_VOXELS))]
    return percentiles_within(volume, percentiles, bounds)


def percentiles_within(
    volume: Volume, percentiles: Sequence[float], bounds: Sequence[Bounds]
) -> tuple[float, float]:
    """Two percentiles of the voxels within the bounds, as in `range_of`."""
    first, step = _levels(volume, bounds)
    counts = np.zeros(LEVELS, np.int64)
    for start, stop in bounds:
        levels = (volume.read(start, stop).ravel() - first) / step
        counts += np.bincount(levels.astype(np.int64), minlength=LEVELS)
    below = np.cumsum(counts)
    low, high = (_at(below, (below[-1] - 1) * percentile / 100) for percentile in percentiles)
    return first + step * low, first + step * high


def _levels(volume: Volume, bounds: Sequence[Bounds]) -> tuple[float, float]:
    """The value of the first of the `LEVELS` and the step between them."""
    if volume.dtype.kind in "iu" and volume.dtype.itemsize <= 2:
        return float(np.iinfo(volume.dtype).min), 1.0
    extremes = [(slab.min(), slab.max()) for slab in (volume.read(*one) for one in bounds)]
    low, high = min(a for a, _ in extremes), max(b for _, b in extremes)
    return float(low), (float(high) - float(low)) / (LEVELS - 1) or 1.0


def _at(below: np.ndarray, place: float) -> float:
    """The level at an index of the sorted voxels, with linear interpolation."""
    before, after = np.searchsorted(below, [np.floor(place), np.ceil(place)], side="right")
    return float(before + (after - before) * (place - np.floor(place)))


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
    """The range of nearly all voxels of a volume.

    Attributes:
        dtype: the stored one.
        low, high: as stored.
        seen: low and high as a network sees them.
    """

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
    """The joint range of several volumes, in plain containers.

    Returns:
        `dtype`, all of them in one string; `stored` and `seen`, [least, most] of the volumes'
            ranges.
    """
    facts = [one.facts() for one in found]
    hull = {
        key: [min(one[key][0] for one in facts), max(one[key][1] for one in facts)]
        for key in ("stored", "seen")
    }
    return {"dtype": ", ".join(dict.fromkeys(one["dtype"] for one in facts)), **hull}


def small_part(location: str, found: Intensities) -> str | None:
    """A line if a volume uses a small part of its type, so that a network sees little contrast.

    Args:
        location: the volume's, for the line.
        found: of a volume without a setting of its intensities.
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
    """A line if a network sees another range of intensities than in training, else None.

    Args:
        location: the volume's, for the line.
        found: of the volume.
        trained: of the training's volumes, as `together` returns it.
    """
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
