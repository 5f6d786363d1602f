"""Local changes of the image within random boxes."""

from dataclasses import dataclass

import numpy as np

from emseg.data.augment.checks import check_interval, check_probability
from emseg.data.augment.grey_values import grey, make_noisy
from emseg.data.augment.transform import Sample, Size, Transform


@dataclass(frozen=True, kw_only=True)
class CutNoise(Transform):
    """With probability `p`, a box gets independent normal noise.

    Its sides, as fractions of the sample's, are drawn from `length`, the standard deviation from
    `sigma`.
    """

    length: tuple[float, float] = (0.1, 0.25)
    sigma: tuple[float, float] = (0.05, 0.15)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.length, name="length", owner=self, least=0, most=1)
        check_interval(self.sigma, name="sigma", owner=self, least=0)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image, (start, stop) = sample.own_image(), _box(size, self.length, rng)
        make_noisy(image, rng.uniform(*self.sigma), (start, stop), rng)
        return sample.with_image(image)


@dataclass(frozen=True, kw_only=True)
class CutBlur(Transform):
    """With probability `p`, a box is as coarse within sections as if recorded with larger pixels.

    Its sides, as fractions of the sample's, are drawn from `length`; squares of a whole number of
    pixels drawn from `ratio` get their mean. (Yoo et al. 2020, "Rethinking data augmentation for
    image super-resolution".)
    """

    length: tuple[float, float] = (0.3, 0.5)
    ratio: tuple[int, int] = (2, 8)
    p: float = 0.5

    def __post_init__(self) -> None:
        check_interval(self.length, name="length", owner=self, least=0, most=1)
        check_interval(self.ratio, name="ratio", owner=self, least=2)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image, (start, stop) = sample.own_image(), _box(size, self.length, rng)
        ratio = int(rng.integers(self.ratio[0], self.ratio[1] + 1))
        inside = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        for channel in image:
            coarse = _coarse(channel[inside].astype(np.float32), ratio)
            channel[inside] = np.rint(coarse) if image.dtype == np.uint8 else coarse
        return sample.with_image(image)


@dataclass(frozen=True, kw_only=True)
class Cutout(Transform):
    """With probability `p`, boxes of one size hold the value `fill` and no image.

    How many is drawn from `count`; how many sections each takes, from `depth`, and how many pixels
    square it is within them, from `side`, are drawn once for all. They lie anywhere in the patch,
    and over each other. (DeVries and Taylor 2017; many of them, after SSNS-Net.)
    """

    count: tuple[int, int] = (60, 100)
    depth: tuple[int, int] = (5, 10)
    side: tuple[int, int] = (10, 20)
    fill: float = 0.0
    p: float = 0.5

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.count, name="count", owner=self, least=1)
        check_interval(self.depth, name="depth", owner=self, least=1)
        check_interval(self.side, name="side", owner=self, least=1)
        check_interval((self.fill, self.fill), name="fill", owner=self, least=0, most=1)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image = sample.own_image()
        count, depth, side = (
            int(rng.integers(low, high + 1)) for low, high in (self.count, self.depth, self.side)
        )
        sides = np.minimum((depth, side, side), size)
        for corner in rng.integers(np.subtract(size, sides) + 1, size=(count, 3)):
            box = tuple(slice(a, a + n) for a, n in zip(corner, sides, strict=True))
            image[:, *box] = grey(self.fill, image.dtype)
        return sample.with_image(image)


def _box(
    size: Size, length: tuple[float, float], rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    sides = [max(1, round(n * rng.uniform(*length))) for n in size]
    start = [int(rng.integers(n - side + 1)) for n, side in zip(size, sides, strict=True)]
    return start, [a + side for a, side in zip(start, sides, strict=True)]


def _coarse(box: np.ndarray, ratio: int) -> np.ndarray:
    """Each square of `ratio` pixels with its mean; those at the far sides may be cut off."""
    for axis in (1, 2):
        first = np.arange(0, box.shape[axis], ratio)
        counts = np.diff(np.append(first, box.shape[axis]))
        sums = np.add.reduceat(box, first, axis=axis)
        along = [other for other in range(3) if other != axis]
        means = sums / np.expand_dims(counts.astype(np.float32), along)
        box = np.repeat(means, counts, axis=axis)
    return box
