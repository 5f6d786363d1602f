"""Cells as dark or as pale as they may be elsewhere: intensities changed body by body."""

from typing import Annotated

import numpy as np

from emseg.bounds import Fraction, interval
from emseg.data.augment.grey_values import grey, write_levels
from emseg.data.augment.transform import RandomTransform, Sample, Size


class CellShade(RandomTransform):
    """With probability `p`, single bodies are darkened or paled, their membranes hardly.

    Some cells have a cytoplasm nearly as dark as membranes are. A volume holds few of them, so that
    a network that saw the others only does not see where they end.

    Args:
        share: each labelled body is changed with this probability.
        shade: by which part of its distance to the patch's dark end (5 % of voxels are darker) a
            voxel of the body is darkened; drawn for each body from [lo, hi]; negative: paled.
    """

    share: Fraction = 0.5
    shade: Annotated[tuple[float, float], interval(-1, 1)] = (-0.2, 0.6)
    p: Fraction = 0.5

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        ids, places = np.unique(sample.labels, return_inverse=True)
        changed = (rng.random(len(ids)) < self.share) & (ids > 0)
        shade = np.where(changed, rng.uniform(*self.shade, len(ids)), 0).astype(np.float32)
        if not changed.any():
            return sample
        image = sample.own_image()
        levels = image.astype(np.float32)
        levels -= shade[places.reshape(size)] * (levels - np.percentile(levels, 5))
        write_levels(image, np.clip(levels, 0, grey(1, image.dtype)))
        return sample.with_image(image)
