"""A segmentation by intensity only, which a trained network must exceed."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, maximum_filter
from skimage.segmentation import watershed

SMOOTHED_NM = 6.0
SEED_DISTANCE_NM = 80.0
BRIGHT = 0.8  # part of the volume that counts as inside a neurite


def raw_watershed(raw: np.ndarray, *, voxel_size: Sequence[float]) -> np.ndarray:
    """A seeded watershed of the smoothed image: int32 labels (Z, Y, X), from 1.

    Seeds are the deepest places inside its bright part; basins grow from them, bright voxels first.

    Args:
        raw: uint8 (Z, Y, X), dark at membranes.
        voxel_size: nm (z, y, x).
    """
    sizes = np.asarray(voxel_size, np.float64)
    smooth = gaussian_filter(raw.astype(np.float32), SMOOTHED_NM / sizes)
    inside = smooth > np.quantile(smooth, 1 - BRIGHT)
    depth = gaussian_filter(distance_transform_edt(inside, sampling=sizes), SMOOTHED_NM / sizes)
    window = 2 * np.rint(SEED_DISTANCE_NM / sizes).astype(int) + 1
    peaks = (depth == maximum_filter(depth, size=window)) & inside
    seeds = label(peaks, structure=np.ones((3, 3, 3)), output=np.int32)[0]
    return watershed(np.rint(255 - smooth), seeds)
