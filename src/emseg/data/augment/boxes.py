"""Local changes of the image within random boxes."""

from typing import Annotated

import numpy as np

from emseg.bounds import Count, Fraction, Fractions, NotNegative, interval
from emseg.data.augment.grey_values import grey, make_noisy, write_levels
from emseg.data.augment.transform import ImageTransform, draw_box


class CutNoise(ImageTransform):
    """With probability `p`, a box gets independent normal noise.

    Args:
        length: its sides, as fractions of the sample's, drawn from [lo, hi].
        sigma: the standard deviation, drawn from [lo, hi]; 1 is the whole range of grey values.
    """

    length: Fractions = (0.1, 0.25)
    sigma: NotNegative = (0.05, 0.15)
    p: Fraction = 0.3

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        box = image[:, *draw_box(image.shape[1:], self.length, rng)]
        make_noisy(box, rng.uniform(*self.sigma), rng)


class CutBlur(ImageTransform):
    """With probability `p`, a box is as coarse within sections as if recorded with larger pixels.

    (Yoo et al. 2020, "Rethinking data augmentation for image super-resolution".)

    Args:
        length: the box's sides, as fractions of the sample's, drawn from [lo, hi].
        ratio: the side of squares that get their mean, whole pixels drawn from [lo, hi].
    """

    length: Fractions = (0.3, 0.5)
    ratio: Annotated[tuple[int, int], interval(2)] = (2, 8)

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        box = image[:, *draw_box(image.shape[1:], self.length, rng)]
        ratio = int(rng.integers(*self.ratio, endpoint=True))
        for channel in box:
            write_levels(channel, _coarse(channel.astype(np.float32), ratio))


class Cutout(ImageTransform):
    """With probability `p`, boxes of one size are filled with one value.

    They can be anywhere in the patch, and overlap. (DeVries and Taylor 2017; many of them, after
    SSNS-Net.)

    Args:
        count: their number, drawn from [lo, hi].
        depth, side: their number of sections and their side in pixels, drawn once for all.
        fill: the value, 0 to 1.
    """

    count: Count = (60, 100)
    depth: Count = (5, 10)
    side: Count = (10, 20)
    fill: Fraction = 0.0
    in_sections = True

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        count, depth, side = (
            int(rng.integers(*n, endpoint=True)) for n in (self.count, self.depth, self.side)
        )
        sides = np.minimum((depth, side, side), image.shape[1:])
        for corner in rng.integers(np.subtract(image.shape[1:], sides) + 1, size=(count, 3)):
            box = tuple(slice(a, a + n) for a, n in zip(corner, sides, strict=True))
            image[:, *box] = grey(self.fill, image.dtype)


def _coarse(box: np.ndarray, ratio: int) -> np.ndarray:
    """Replaces each square of `ratio` pixels by its mean; those at the far sides may be cut off."""
    for axis in (1, 2):
        first = np.arange(0, box.shape[axis], ratio)
        counts = np.diff(np.append(first, box.shape[axis]))
        sums = np.add.reduceat(box, first, axis=axis)
        along = [other for other in range(3) if other != axis]
        means = sums / np.expand_dims(counts.astype(np.float32), along)
        box = np.repeat(means, counts, axis=axis)
    return box
