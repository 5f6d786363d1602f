"""The skeleton-aware distance of one section, pixel by pixel."""

import numpy as np
from skimage.morphology import skeletonize


def section_by_pixel(section, *, pixel, alpha, background):
    """Values, and where they are known; skeletons are drawn in the whole section."""
    values = np.full(section.shape, background, np.float64)
    known = section != -1
    here = list(np.ndindex(section.shape))
    for label in set(section[section > 0].tolist()):
        own = [p for p in here if section[p] == label]
        other = [p for p in here if section[p] != label]
        skeleton = np.argwhere(skeletonize(np.pad(section == label, 2))) - 2
        for p in own:
            if not other:
                known[p] = False
                continue
            border = min(_distance(p, q, pixel) for q in other)
            inward = min(_distance(p, q, pixel) for q in skeleton)
            values[p] = (border / (border + inward)) ** alpha
    return values, known


def _distance(p, q, pixel):
    return sum(((a - b) * step) ** 2 for a, b, step in zip(p, q, pixel, strict=True)) ** 0.5
