"""Whether a region holds enough foreground."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def has_foreground(labels: np.ndarray, least: int) -> bool:
    """True when `least` voxels or more of `labels` (Z, Y, X) int32 are above 0.

    It looks no further than it has to, row by row.
    """
    found = 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                found += labels[z, y, x] > 0
            if found >= least:
                return True
    return found >= least
