"""Changes of intensity; afterwards the image saturates at 0 and 1, as the detector did.

A stored uint8 image stays uint8, 255 being 1: a change is then a table of 256 levels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtri

from emseg.data.augment import Sample, Size, Transform
from emseg.data.augment_checks import check_interval, check_probability
from emseg.kernels.intensity_levels import add_noise, look_up

LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)
Box = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class Brightness(Transform):
    """With probability `p`, one number drawn from `shift` is added to every voxel."""

    shift: tuple[float, float] = (-0.1, 0.1)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.shift, name="shift", owner=self)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        shift = rng.uniform(*self.shift)
        return sample.with_image(apply_curve(sample.own_image(), lambda x: x + shift))


@dataclass(frozen=True, kw_only=True)
class Contrast(Transform):
    """With probability `p`, the distance to the patch's mean is multiplied by one `gain`."""

    gain: tuple[float, float] = (0.9, 1.1)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.gain, name="gain", owner=self, least=0)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        gain, image = rng.uniform(*self.gain), sample.own_image()
        mean = float(image.mean(dtype=np.float64)) / (255 if image.dtype == np.uint8 else 1)
        return sample.with_image(apply_curve(image, lambda x: (x - mean) * gain + mean))


@dataclass(frozen=True, kw_only=True)
class Gamma(Transform):
    """With probability `p`, every voxel is raised to one power.

    The power's logarithm is uniform over `gamma`, so that [1/g, g] darkens and lightens alike.
    """

    gamma: tuple[float, float] = (0.9, 1.1)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.gamma, name="gamma", owner=self, least=0.01)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        power = draw_power(self.gamma, rng)
        return sample.with_image(apply_curve(sample.own_image(), lambda x: x**power))


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Transform):
    """With probability `p`, independent normal noise; its `sigma` is drawn from an interval."""

    sigma: tuple[float, float] = (0.0, 0.05)
    p: float = 0.3

    def __post_init__(self) -> None:
        check_interval(self.sigma, name="sigma", owner=self, least=0)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image, sigma = sample.own_image(), rng.uniform(*self.sigma)
        make_noisy(image, sigma, ((0, 0, 0), sample.size), rng)
        return sample.with_image(image)


def apply_curve(
    image: np.ndarray, curve: Callable[[np.ndarray], np.ndarray], box: Box | None = None
) -> np.ndarray:
    """The image, in which every intensity x in [0, 1] (within the box alone) is now curve(x).

    What leaves [0, 1] saturates; uint8 is rounded to the nearest level.
    """
    start, stop = box or ((0, 0, 0), image.shape[1:])
    if image.dtype == np.uint8:
        table = np.rint(255 * np.clip(curve(LEVELS), 0, 1)).astype(np.uint8)
        look_up(image, table, np.array(start), np.array(stop))
    else:
        part = image[:, *(slice(a, b) for a, b in zip(start, stop, strict=True))]
        np.clip(curve(part), 0, 1, out=part, casting="unsafe")
    return image


def make_noisy(image: np.ndarray, sigma: float, box: Box, rng: np.random.Generator) -> None:
    """Nothing; within the box the image has got independent normal noise of `sigma`."""
    part = image[:, *(slice(a, b) for a, b in zip(*box, strict=True))]
    if image.dtype == np.uint8:
        table = np.clip(np.rint(255 * sigma * _normal_quantiles()), -255, 255).astype(np.int16)
        count = (part.size + 3) // 4
        raw = rng.integers(2**64 - 1, size=count, dtype=np.uint64, endpoint=True)
        levels = part.ravel()  # a view where the box is the whole image, else a copy
        add_noise(levels, table, raw)
        if levels.base is None:
            part[...] = levels.reshape(part.shape)
    else:
        part += rng.standard_normal(part.shape, dtype=np.float32) * np.float32(sigma)
        np.clip(part, 0, 1, out=part)


def draw_power(gamma: tuple[float, float], rng: np.random.Generator) -> float:
    """A power whose logarithm is uniform over the interval."""
    low, high = gamma
    # A Python float: one of numpy's would make float64 of float32 images.
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def grey(value: float, dtype: np.dtype) -> float:
    """An intensity in [0, 1] as an image of that dtype holds it."""
    return round(255 * value) if dtype == np.uint8 else value


@cache
def _normal_quantiles() -> np.ndarray:
    """8192 equally likely values of a normal variable."""
    return ndtri((np.arange(8192) + 0.5) / 8192)
