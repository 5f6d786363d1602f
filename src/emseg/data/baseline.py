"""What intensity alone can do: the yardstick that a trained network must beat."""

from collections.abc import Sequence

import numpy as np
from numba import njit
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, maximum_filter


def raw_watershed(
    raw: np.ndarray,
    *,
    voxel_size: Sequence[float],
    sigma_nm: float = 6.0,
    bright: float = 0.8,
    seed_distance_nm: float = 80.0,
) -> np.ndarray:
    """int32 labels (Z, Y, X), from 1: a seeded watershed of the smoothed uint8 image.

    The brightest part `bright` of the smoothed image counts as inside a neurite. Seeds are the
    places deepest inside, `seed_distance_nm` apart; basins grow from them, bright places first.
    """
    sizes = np.asarray(voxel_size, np.float64)
    smooth = gaussian_filter(raw.astype(np.float32), sigma_nm / sizes)
    inside = smooth > np.quantile(smooth, 1 - bright)
    depth = gaussian_filter(distance_transform_edt(inside, sampling=sizes), sigma_nm / sizes)
    window = 2 * np.rint(seed_distance_nm / sizes).astype(int) + 1
    peaks = (depth == maximum_filter(depth, size=window)) & inside
    labels = label(peaks, structure=np.ones((3, 3, 3)), output=np.int32)[0]
    _flood(labels, np.rint(255 - smooth).astype(np.uint8))
    return labels


@njit(cache=True, nogil=True)
def _flood(labels, height):
    """Grows the seeds in `labels` over 6-neighbours, lowest height first, until all is full."""
    flat = labels.ravel()
    level_of = height.ravel()
    strides = (labels.shape[1] * labels.shape[2], labels.shape[2], 1)
    link = np.full(flat.size, -1, np.int64)
    head = np.full(256, -1, np.int64)
    tail = np.full(256, -1, np.int64)
    for voxel in range(flat.size):
        if flat[voxel]:
            level = level_of[voxel]
            if head[level] < 0:
                head[level] = voxel
            else:
                link[tail[level]] = voxel
            tail[level] = voxel
    for level in range(256):
        while head[level] >= 0:
            voxel = head[level]
            head[level] = link[voxel]
            for axis in range(3):
                place = (voxel // strides[axis]) % labels.shape[axis]
                for side in (-1, 1):
                    if not 0 <= place + side < labels.shape[axis]:
                        continue
                    beside = voxel + side * strides[axis]
                    if flat[beside]:
                        continue
                    flat[beside] = flat[voxel]
                    # What lies lower than the water is under it at once.
                    joined = max(level, level_of[beside])
                    if head[joined] < 0:
                        head[joined] = beside
                    else:
                        link[tail[joined]] = beside
                    tail[joined] = beside
