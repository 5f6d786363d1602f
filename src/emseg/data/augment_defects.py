"""Defects of sections that show in the image alone: labels stay."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from emseg.data.augment import Sample, Size, Transform
from emseg.data.augment_checks import check_interval, check_probability
from emseg.data.augment_intensity import apply_curve, draw_power, grey
from emseg.data.augment_sections import draw_sections
from emseg.errors import UserError, unknown_name
from emseg.kernels.intensity_levels import blur

Rectangle = tuple[slice, slice]
Scope = Literal["volume", "section", "mixed"]


@dataclass(frozen=True, kw_only=True)
class MissingSections(Transform):
    """With probability `p`, a few sections, or parts of them, hold one grey value and no image.

    Their number is drawn from `sections`. Each is missing as a whole with probability `full`; else
    the part on one side of a line along an axis, which is a fraction drawn from `part` of it. The
    value is drawn from `fill`, for each section anew.
    """

    sections: tuple[int, int] = (1, 2)
    full: float = 0.5
    part: tuple[float, float] = (0.25, 0.75)
    fill: tuple[float, float] = (0.0, 1.0)
    p: float = 0.3

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.sections, name="sections", owner=self, least=1)
        check_probability(self.full, name="full", owner=self)
        check_interval(self.part, name="part", owner=self, least=0, most=1)
        check_interval(self.fill, name="fill", owner=self, least=0, most=1)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image = sample.own_image()
        for z in draw_sections(self.sections, size[0], rng):
            rows = columns = slice(None)
            if rng.random() >= self.full:
                rows, columns = _one_side(size, rng.uniform(*self.part), rng)
            image[:, z, rows, columns] = grey(rng.uniform(*self.fill), image.dtype)
        return sample.with_image(image)


@dataclass(frozen=True, kw_only=True)
class MissingParts(Transform):
    """With probability `p`, a few sections have a rectangular hole of one grey value.

    Their number is drawn from `sections`, the hole's sides, as fractions of the section's, from
    `hole`, and the value from `fill`.
    """

    sections: tuple[int, int] = (1, 1)
    hole: tuple[float, float] = (0.1, 0.25)
    fill: tuple[float, float] = (0.0, 0.0)
    p: float = 0.2

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.sections, name="sections", owner=self, least=1)
        check_interval(self.hole, name="hole", owner=self, least=0, most=1)
        check_interval(self.fill, name="fill", owner=self, least=0, most=1)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image = sample.own_image()
        for z in draw_sections(self.sections, size[0], rng):
            sides = [max(1, round(n * rng.uniform(*self.hole))) for n in size[1:]]
            corner = [
                int(rng.integers(n - side + 1)) for n, side in zip(size[1:], sides, strict=True)
            ]
            rows, columns = (slice(a, a + n) for a, n in zip(corner, sides, strict=True))
            image[:, z, rows, columns] = grey(rng.uniform(*self.fill), image.dtype)
        return sample.with_image(image)


@dataclass(frozen=True, kw_only=True)
class OutOfFocus(Transform):
    """With probability `p`, a few sections, or quarters of them, are blurred by a Gaussian.

    Their number is drawn from `sections`, the standard deviation in pixels from `sigma`. A section
    is blurred as a whole with probability `full`, else one of the four quarters that a random
    point cuts it into. (DeepEM's defocus; the "motion blur" of other systems is this, too.)
    """

    sections: tuple[int, int] = (1, 5)
    sigma: tuple[float, float] = (1.0, 3.0)
    full: float = 0.5
    p: float = 0.3

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.sections, name="sections", owner=self, least=1)
        check_interval(self.sigma, name="sigma", owner=self, least=0)
        check_probability(self.full, name="full", owner=self)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image = sample.own_image()
        for z in draw_sections(self.sections, size[0], rng):
            sigma = rng.uniform(*self.sigma)
            rows = columns = slice(None)
            if rng.random() >= self.full:
                quarters = list(_quarters(size, rng))
                rows, columns = quarters[rng.integers(4)]
            for section in image[:, z]:
                part = section[rows, columns]
                if part.size:
                    smooth = blur(np.ascontiguousarray(part, np.float32), sigma)
                    part[...] = np.rint(smooth) if image.dtype == np.uint8 else smooth
        return sample.with_image(image)


@dataclass(frozen=True, kw_only=True)
class SectionBlur(Transform):
    """With probability `p`, every section is blurred by a Gaussian of its own.

    Its standard deviation in pixels is drawn from `sigma`, and one of `widths`, odd numbers of
    pixels, is that of the square beyond which it is cut off (null: 3 sigma). (SSNS-Net's blur.)
    """

    sigma: tuple[float, float] = (0.0, 2.0)
    widths: tuple[int, ...] | None = (3, 5, 7, 9)
    p: float = 0.5

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.sigma, name="sigma", owner=self, least=0)
        widths = (1,) if self.widths is None else self.widths
        if not widths or not all(width > 0 and width % 2 for width in widths):
            raise UserError(f"SectionBlur: widths {list(widths)} must be odd numbers from 1 up")
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image = sample.own_image()
        for z in range(size[0]):
            sigma = rng.uniform(*self.sigma)
            radius = None if self.widths is None else int(rng.choice(self.widths)) // 2
            for section in image[:, z]:
                smooth = blur(section.astype(np.float32), sigma, radius)
                section[...] = np.rint(smooth) if image.dtype == np.uint8 else smooth
        return sample.with_image(image)


@dataclass(frozen=True, kw_only=True)
class Grayscale(Transform):
    """With probability `p`, x becomes (gain x + shift) ** gamma, saturating before the power.

    `gain` and `shift` are drawn uniformly, the logarithm of `gamma` is. `scope` says for what they
    are drawn: the whole `volume`, each `section`, or `mixed`: each section as a whole, or, with
    probability 1/2, each of the four quarters that a random point cuts it into, every one with
    probability 1/2. (DeepEM's is mixed; its "0.5" is a gain of 0.75 to 1.25.)
    """

    gain: tuple[float, float] = (0.75, 1.25)
    shift: tuple[float, float] = (-0.25, 0.25)
    gamma: tuple[float, float] = (0.5, 2.0)
    scope: Scope = "mixed"
    p: float = 0.7

    def __post_init__(self) -> None:
        check_interval(self.gain, name="gain", owner=self, least=0)
        check_interval(self.shift, name="shift", owner=self)
        check_interval(self.gamma, name="gamma", owner=self, least=0.01)
        if self.scope not in get_args(Scope):
            raise unknown_name("scope", self.scope, get_args(Scope), where="Grayscale")
        check_probability(self.p, owner=self)

    @property
    def in_sections(self) -> bool:
        return self.scope != "volume"

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        image = sample.own_image()
        whole = (slice(0, size[1]), slice(0, size[2]))
        if self.scope == "volume":
            self._change(image, slice(0, size[0]), whole, rng)
            return sample.with_image(image)
        for z in range(size[0]):
            if self.scope == "section" or rng.random() < 0.5:
                self._change(image, slice(z, z + 1), whole, rng)
                continue
            for quarter in _quarters(size, rng):
                if rng.random() < 0.5:
                    self._change(image, slice(z, z + 1), quarter, rng)
        return sample.with_image(image)

    def _change(
        self, image: np.ndarray, sections: slice, within: Rectangle, rng: np.random.Generator
    ) -> None:
        gain, shift = rng.uniform(*self.gain), rng.uniform(*self.shift)
        power = draw_power(self.gamma, rng)
        box = (sections, *within)
        apply_curve(
            image,
            lambda x: np.clip(gain * x + shift, 0, 1) ** power,
            ([part.start for part in box], [part.stop for part in box]),
        )


def _one_side(size: Size, fraction: float, rng: np.random.Generator) -> Rectangle:
    axis, near = int(rng.integers(2)), bool(rng.integers(2))
    length = max(1, round(size[1 + axis] * fraction))
    side = slice(0, length) if near else slice(size[1 + axis] - length, size[1 + axis])
    return (side, slice(None)) if axis == 0 else (slice(None), side)


def _quarters(size: Size, rng: np.random.Generator) -> Iterator[Rectangle]:
    row, column = (int(rng.integers(n + 1)) for n in size[1:])
    for rows in (slice(0, row), slice(row, size[1])):
        for columns in (slice(0, column), slice(column, size[2])):
            yield rows, columns
