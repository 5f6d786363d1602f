"""Changes of intensity; afterwards the image is clipped to [0, 1], as in the detector.

A stored uint8 image stays uint8, 255 being 1: a change is then a table of 256 levels.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Literal

import numpy as np
from scipy.special import ndtri

from emseg.bounds import Fraction, NotNegative, interval
from emseg.data.augment.transform import ImageTransform, draw_power, draw_quarters
from emseg.kernels.intensity_levels import add_noise, look_up

LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)

Interval = Annotated[tuple[float, float], interval()]
Powers = Annotated[tuple[float, float], interval(0.01)]
Scope = Literal["volume", "section", "mixed"]
Box = tuple[slice, slice, slice]


class Brightness(ImageTransform):
    """With probability `p`, one number drawn from `shift` is added to every voxel."""

    shift: Interval = (-0.1, 0.1)
    p: Fraction = 0.3

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        shift = rng.uniform(*self.shift)
        apply_curve(image, lambda x: x + shift)


class Contrast(ImageTransform):
    """With probability `p`, the distance to the patch's mean is multiplied by one `gain`."""

    gain: NotNegative = (0.9, 1.1)
    p: Fraction = 0.3

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        gain = rng.uniform(*self.gain)
        mean = float(image.mean(dtype=np.float64)) / (255 if image.dtype == np.uint8 else 1)
        apply_curve(image, lambda x: (x - mean) * gain + mean)


class Gamma(ImageTransform):
    """With probability `p`, every voxel is raised to one power.

    Args:
        gamma: the power, drawn from [lo, hi]; its logarithm is uniform, so that [1/g, g] darkens
            and lightens equally often.
    """

    gamma: Powers = (0.9, 1.1)
    p: Fraction = 0.3

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        power = draw_power(self.gamma, rng)
        apply_curve(image, lambda x: x**power)


class Grayscale(ImageTransform):
    """With probability `p`, x becomes (gain x + shift) ** gamma, clipped before the power.

    (DeepEM's is mixed; its "0.5" is a gain of 0.75 to 1.25.)

    Args:
        gain, shift: drawn uniformly, each from its [lo, hi].
        gamma: drawn from [lo, hi], its logarithm uniformly.
        scope: for what they are drawn: the whole `volume`, each `section`, or `mixed`: each whole
            section or, with probability 1/2, each of the four quarters around a random point, each
            quarter with probability 1/2.
    """

    gain: NotNegative = (0.75, 1.25)
    shift: Interval = (-0.25, 0.25)
    gamma: Powers = (0.5, 2.0)
    scope: Scope = "mixed"
    p: Fraction = 0.7

    @property
    def in_sections(self) -> bool:
        return self.scope != "volume"

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        for box in self._boxes(image.shape[1:], rng):
            apply_curve(image, self._curve(rng), box)

    def _boxes(self, size: tuple[int, ...], rng: np.random.Generator) -> Iterator[Box]:
        depth, height, width = size
        rows, columns = slice(0, height), slice(0, width)
        if self.scope == "volume":
            yield slice(0, depth), rows, columns
            return
        for z in range(depth):
            section = slice(z, z + 1)
            if self.scope == "section" or rng.random() < 0.5:
                yield section, rows, columns
                continue
            for quarter in draw_quarters((height, width), rng):
                if rng.random() < 0.5:
                    yield section, *quarter

    def _curve(self, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        gain, shift = rng.uniform(*self.gain), rng.uniform(*self.shift)
        power = draw_power(self.gamma, rng)
        return lambda x: np.clip(gain * x + shift, 0, 1) ** power


class GaussianNoise(ImageTransform):
    """With probability `p`, independent normal noise; its `sigma` is drawn from an interval."""

    sigma: NotNegative = (0.0, 0.05)
    p: Fraction = 0.3

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        make_noisy(image, rng.uniform(*self.sigma), rng)


def apply_curve(
    image: np.ndarray, curve: Callable[[np.ndarray], np.ndarray], box: Box | None = None
) -> None:
    """Change every intensity x in [0, 1] of an image, or within a box of it, to curve(x), in place.

    Results are clipped to [0, 1]; uint8 is rounded to the nearest level.
    """
    box = box or tuple(slice(0, n) for n in image.shape[1:])
    if image.dtype == np.uint8:
        table = np.rint(255 * np.clip(curve(LEVELS), 0, 1)).astype(np.uint8)
        start, stop = np.array([(part.start, part.stop) for part in box]).T
        look_up(image, table, start, stop)
    else:
        part = image[:, *box]
        np.clip(curve(part), 0, 1, out=part, casting="unsafe")


def make_noisy(part: np.ndarray, sigma: float, rng: np.random.Generator) -> None:
    """Add independent normal noise of `sigma` to an image, or a part of one, in place."""
    if part.dtype == np.uint8:
        table = np.clip(np.rint(255 * sigma * _normal_quantiles()), -255, 255).astype(np.int16)
        raw = rng.bit_generator.random_raw((part.size + 3) // 4)
        levels = part.ravel()  # a view where the part is the whole image, else a copy
        add_noise(levels, table, raw.view(np.uint16))
        if levels.base is None:
            part[...] = levels.reshape(part.shape)
    else:
        part += rng.standard_normal(part.shape, dtype=np.float32) * np.float32(sigma)
        np.clip(part, 0, 1, out=part)


def grey(value: float, dtype: np.dtype) -> float:
    """An intensity in [0, 1] as an image of that dtype holds it."""
    return round(255 * value) if dtype == np.uint8 else value


def write_levels(part: np.ndarray, values: np.ndarray) -> None:
    """Write float32 values over part of an image, rounded where that holds levels."""
    part[...] = np.rint(values) if part.dtype == np.uint8 else values


@cache
def _normal_quantiles() -> np.ndarray:
    """8192 equally likely values of a normal variable."""
    return ndtri((np.arange(8192) + 0.5) / 8192)
