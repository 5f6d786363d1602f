"""What intensity alone can do: the yardstick that a trained network must beat."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import (
    distance_transform_edt,
    gaussian_filter,
    label,
    maximum_filter,
    watershed_ift,
)


def raw_watershed(
    raw: np.ndarray,
    *,
    voxel_size: Sequence[float],
    sigma_nm: float = 6.0,
    threshold: float = 0.65,
    seed_distance_nm: float = 80.0,
) -> np.ndarray:
    """int32 labels (Z, Y, X), from 1: a seeded watershed of the smoothed image.

    Membranes are what is darker than the quantile `1 - threshold` of the smoothed image; seeds are
    the places farthest from them, at least `seed_distance_nm` apart; basins grow from the seeds,
    bright places first.
    """
    sizes = np.asarray(voxel_size, np.float64)
    smooth = gaussian_filter(raw.astype(np.float32), sigma_nm / sizes)
    inside = smooth > np.quantile(smooth, 1 - threshold)
    depth = distance_transform_edt(inside, sampling=sizes)
    window = 2 * np.rint(seed_distance_nm / sizes).astype(int) + 1
    peaks = (depth == maximum_filter(depth, size=window)) & inside
    seeds, _ = label(peaks, structure=np.ones((3, 3, 3)))
    height = np.rint(255 - smooth).astype(np.uint8)
    return watershed_ift(height, seeds.astype(np.int32))
