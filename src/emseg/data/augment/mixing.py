"""Mixed samples: an object pasted at a second place, an image blended with another."""

import numpy as np

from emseg.bounds import Fraction, Fractions, Positive
from emseg.data.augment.transform import RandomTransform, Sample, Size
from emseg.data.intensity import to_unit


class CopyPaste(RandomTransform):
    """With probability `p`, one object is copied to another place, image and labels.

    It is mirrored within sections along each axis with probability 1/2, and moved by up to half the
    sample within them. It covers other objects, but not unlabelled voxels, and gets a new label.

    Args:
        min_size: voxels; all objects of so many or more are equally likely.
    """

    min_size: Positive = 100
    p: Fraction = 0.6

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        ids, counts = np.unique(sample.labels, return_counts=True)
        large = ids[(ids > 0) & (counts >= self.min_size)]
        if not len(large):
            return sample
        mirrored = tuple(axis - 2 for axis in range(2) if rng.random() < 0.5)
        image = np.flip(sample.image, mirrored)
        copied = np.flip(sample.labels == rng.choice(large), mirrored)
        shift = [int(rng.integers(-(n // 2), n // 2 + 1)) for n in size[1:]]
        to = [slice(max(0, d), n + min(0, d)) for n, d in zip(size[1:], shift, strict=True)]
        source = [slice(max(0, -d), n - max(0, d)) for n, d in zip(size[1:], shift, strict=True)]
        pasted, labels = sample.image.copy(), sample.labels.copy()
        covered = copied[:, *source] & (labels[:, *to] >= 0)
        labels[:, *to][covered] = _unused(ids)
        for channel, seen in zip(pasted, image, strict=True):
            channel[:, *to][covered] = seen[:, *source][covered]
        return sample.with_arrays(pasted, labels)


class Mixup(RandomTransform):
    """With probability `p`, the image is blended with another crop of the data set.

    The other crop is not augmented; labels stay.

    Args:
        ratio: the image's weight, drawn from [lo, hi].
    """

    ratio: Fractions = (0.7, 0.9)
    p: Fraction = 0.3

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if sample.draw is None:
            raise ValueError("Mixup needs a sample that can draw another")
        share = np.float32(rng.uniform(*self.ratio))
        other = sample.draw(size, rng).image
        if sample.image.dtype != np.uint8:
            return sample.with_image(sample.image * share + to_unit(other) * (1 - share))
        # Volumes of a data set may be stored in different types.
        levels = other if other.dtype == np.uint8 else other * np.float32(255)
        mixed = sample.image * share + levels * (1 - share)
        return sample.with_image(np.rint(mixed).astype(np.uint8))


def _unused(ids: np.ndarray) -> int:
    """The smallest unused label above 0: the largest may have no successor."""
    return int(np.setdiff1d(np.arange(1, len(ids) + 2), ids)[0])
