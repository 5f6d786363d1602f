"""From stored intensities to the numbers a network sees, the same in training and inference."""

from collections.abc import Iterator, Sequence

import numpy as np

from emseg.errors import UserError
from emseg.volumes import Volume

# Voxels looked at together when a whole volume is checked: 64 MB of float32.
SLAB_VOXELS = 1 << 24


def to_unit(array: np.ndarray, *, intensity_range: Sequence[float] | None = None) -> np.ndarray:
    """The intensities as new float32 in [0, 1], same shape.

    Unsigned integers are divided by their dtype's maximum and floats taken as they are, unless
    `intensity_range` (lo, hi) is given: lo becomes 0 and hi 1, and what lies beyond saturates.
    """
    if intensity_range is None:
        if array.dtype.kind == "f":
            return array.astype(np.float32)
        scale = np.float32(1 / np.iinfo(array.dtype).max)
        return np.multiply(array, scale, dtype=np.float32)
    low, high = intensity_range
    unit = (array.astype(np.float32) - np.float32(low)) * np.float32(1 / (high - low))
    return np.clip(unit, 0, 1, out=unit)


def check_intensities(volume: Volume, *, intensity_range: Sequence[float] | None = None) -> None:
    """Nothing, or a UserError when `to_unit` cannot bring the volume to [0, 1].

    Floats are read once, slab by slab: NaN and infinity are refused always, values outside [0, 1]
    unless an intensity range says what they mean.
    """
    if intensity_range is not None and not intensity_range[0] < intensity_range[1]:
        raise UserError(
            f"data.intensity_range {list(intensity_range)} must be [lo, hi] with lo < hi"
        )
    kind = volume.dtype.kind
    if kind not in "uif":
        raise UserError(f"{volume.location} holds {volume.dtype}, which is no image")
    if kind == "i" and intensity_range is None:
        raise UserError(
            f"{volume.location} holds signed {volume.dtype}: set data.intensity_range=[lo,hi]"
        )
    if kind == "f":
        _check_floats(volume, bounded=intensity_range is None)


def slabs(volume: Volume) -> Iterator[np.ndarray]:
    """The volume's voxels in pieces along axis 0, each small enough to hold."""
    for start, stop in slab_bounds(volume):
        yield volume.read(start, stop)


def slab_bounds(volume: Volume) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The first voxel of every slab and the one beyond its last, in order."""
    depth, *plane = volume.shape
    thickness = max(1, SLAB_VOXELS // max(1, int(np.prod(plane)) * (volume.channels or 1)))
    for start in range(0, depth, thickness):
        yield (start, 0, 0), (min(start + thickness, depth), *plane)


def _check_floats(volume: Volume, *, bounded: bool) -> None:
    low, high = np.inf, -np.inf
    for slab in slabs(volume):
        least, most = float(slab.min()), float(slab.max())
        # NaN and infinity both surface in the extremes.
        if not (np.isfinite(least) and np.isfinite(most)):
            raise UserError(f"{volume.location} holds NaN or infinite values")
        low, high = min(low, least), max(high, most)
    if bounded and not (low >= 0 and high <= 1):
        raise UserError(
            f"{volume.location} reaches from {low:g} to {high:g}, not within [0, 1]: "
            f"set data.intensity_range=[{low:g},{high:g}] or a range of your choice"
        )
