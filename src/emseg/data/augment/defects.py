"""Defects of sections, and of slices across any axis, that change only the image."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from emseg.bounds import Count, Fraction, Fractions, NotNegative, Positive, Rule
from emseg.data.augment.geometry import AXES
from emseg.data.augment.grey_values import grey, write_levels
from emseg.data.augment.transform import (
    ImageTransform,
    RandomTransform,
    Sample,
    Size,
    draw_box,
    draw_quarters,
    draw_sections,
)
from emseg.data.augment.warps import SLACK, middle, warp
from emseg.errors import UserError
from emseg.kernels.intensity_levels import blur

ODD = Rule(
    "odd numbers from 1 up",
    lambda widths: len(widths) > 0 and all(width > 0 and width % 2 for width in widths),
)


class _SectionDefect(ImageTransform):
    sections: Count = (1, 1)
    in_sections = True

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        for z in draw_sections(self.sections, image.shape[1], rng):
            self.change_section(image[:, z], rng)

    @abstractmethod
    def change_section(self, section: np.ndarray, rng: np.random.Generator) -> None:
        """Change a section (C, Y, X) in place."""


class MissingSections(_SectionDefect):
    """With probability `p`, a few sections, or parts of them, get one grey value.

    Args:
        sections: their number, drawn from [lo, hi].
        full: the probability that a whole section is missing; else it is the part on one side of a
            line along an axis.
        part: the fraction of that part, drawn from [lo, hi].
        fill: the value, drawn from [lo, hi] for each section.
    """

    sections: Count = (1, 2)
    full: Fraction = 0.5
    part: Fractions = (0.25, 0.75)
    fill: Fractions = (0.0, 1.0)
    p: Fraction = 0.3

    def change_section(self, section: np.ndarray, rng: np.random.Generator) -> None:
        if rng.random() >= self.full:
            section = _one_side(section, rng.uniform(*self.part), rng)
        section[...] = grey(rng.uniform(*self.fill), section.dtype)


class MissingParts(_SectionDefect):
    """With probability `p`, a few sections have a rectangular hole of one grey value.

    Args:
        sections: their number, drawn from [lo, hi].
        hole: its sides, as fractions of the section's, drawn from [lo, hi].
        fill: the value, drawn from [lo, hi] for each section.
    """

    hole: Fractions = (0.1, 0.25)
    fill: Fractions = (0.0, 0.0)
    p: Fraction = 0.2

    def change_section(self, section: np.ndarray, rng: np.random.Generator) -> None:
        rows, columns = draw_box(section.shape[1:], self.hole, rng)
        section[:, rows, columns] = grey(rng.uniform(*self.fill), section.dtype)


class OutOfFocus(_SectionDefect):
    """With probability `p`, a few sections, or quarters of them, are blurred by a Gaussian.

    (DeepEM's defocus; the "motion blur" of other systems is this, too.)

    Args:
        sections: their number, drawn from [lo, hi].
        sigma: the standard deviation in pixels, drawn from [lo, hi] for each section.
        full: the probability that a whole section is blurred, else one of the four quarters around
            a random point.
    """

    sections: Count = (1, 5)
    sigma: NotNegative = (1.0, 3.0)
    full: Fraction = 0.5
    p: Fraction = 0.3

    def change_section(self, section: np.ndarray, rng: np.random.Generator) -> None:
        sigma = rng.uniform(*self.sigma)
        if rng.random() >= self.full:
            _, height, width = section.shape
            quarters = list(draw_quarters((height, width), rng))
            section = section[:, *quarters[rng.integers(4)]]
        if section.size:
            _blur(section, sigma)


class SectionBlur(ImageTransform):
    """With probability `p`, every section is blurred by its own Gaussian (SSNS-Net's blur).

    Args:
        sigma: its standard deviation in pixels, drawn from [lo, hi].
        widths: odd numbers of pixels; one of them is that of the square beyond which the Gaussian
            is cut off. None: 3 sigma on each side.
    """

    sigma: NotNegative = (0.0, 2.0)
    widths: Annotated[tuple[int, ...], ODD] | None = (3, 5, 7, 9)
    in_sections = True

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        for z in range(image.shape[1]):
            sigma = rng.uniform(*self.sigma)
            radius = None if self.widths is None else int(rng.choice(self.widths)) // 2
            _blur(image[:, z], sigma, radius)


class Fold(RandomTransform):
    """With probability `p`, a few sections are folded along a line, which hides some tissue.

    The line has any angle and goes through any point. On both sides tissue is pulled towards it. A
    band along the line holds one value. Labels stay.

    Args:
        sections: their number, drawn from [lo, hi].
        pull: how many pixels tissue next to the line is pulled, drawn from [lo, hi].
        reach: pixels; tissue d pixels away is pulled by exp(-d / `reach`) of that.
        width: the band's width in pixels, drawn from [lo, hi].
        fill: its value, drawn from [lo, hi].

    Raises:
        UserError: `reach` is less than the strongest pull, so that tissue would be seen twice.
    """

    sections: Count = (1, 5)
    pull: NotNegative = (4.0, 12.0)
    reach: float = 32.0
    width: NotNegative = (4.0, 12.0)
    fill: Fractions = (0.0, 0.3)
    in_sections = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.pull[1] <= self.reach < math.inf:
            raise UserError(
                f"Fold: reach={self.reach} must be {self.pull[1]}, the strongest pull, or more: "
                "tissue would be seen twice"
            )

    def margin(self, size: Size) -> Size:
        aside = math.ceil(self.pull[1] + SLACK)
        return 0, aside, aside

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        inside = sample.centre(size)
        image = inside.image.copy()
        for z in draw_sections(self.sections, size[0], rng):
            section = sample.with_arrays(sample.image[:, z : z + 1], sample.labels[z : z + 1])
            image[:, z] = self._folded(section, size[1:], rng)
        return inside.with_image(image)

    def _folded(
        self, section: Sample, size: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        """The image (C, Y, X) of the middle of a section, folded."""
        angle, point = rng.uniform(0, 2 * math.pi), rng.uniform(0, size)
        across = np.array([math.sin(angle), math.cos(angle)])
        rows, columns = np.ogrid[: size[0], : size[1]]
        distance = (rows - point[0]) * across[0] + (columns - point[1]) * across[1]
        pull = rng.uniform(*self.pull) * np.exp(-np.abs(distance) / self.reach) * np.sign(distance)
        field = (across[:, np.newaxis, np.newaxis] * pull)[np.newaxis].astype(np.float32)
        part = (1, *size)
        around = middle(section.size) - middle(part)
        image = warp(section, part, np.eye(3), around, field=field, in_sections=True).image[:, 0]
        band = np.abs(distance) < rng.uniform(*self.width) / 2
        image[:, band] = grey(rng.uniform(*self.fill), image.dtype)
        return image


class _SliceDefect(ImageTransform):
    axes: Annotated[Sequence[int], AXES] = (0, 1, 2)
    rate: Fraction = 0.05

    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        axis = int(rng.choice(self.axes))
        hit = np.flatnonzero(rng.random(image.shape[1 + axis]) < self.rate)
        self.change_slices(np.moveaxis(image, 1 + axis, 0), hit, rng)

    @abstractmethod
    def change_slices(self, slices: np.ndarray, hit: np.ndarray, rng: np.random.Generator) -> None:
        """Change those of the slices (N, C, A, B) that are `hit`, in place."""


class DropSlices(_SliceDefect):
    """With probability `p`, slices across one axis are lost: they get one value.

    Args:
        axes: the axis is one of these, all equally likely.
        rate: the probability of each slice to be lost.
        fill: the value, 0 to 1.
    """

    fill: Fraction = 0.0

    def change_slices(self, slices: np.ndarray, hit: np.ndarray, rng: np.random.Generator) -> None:
        slices[hit] = grey(self.fill, slices.dtype)


class ShiftSlices(_SliceDefect):
    """With probability `p`, slices across one axis are shifted within their plane, cyclically.

    Args:
        axes: the axis is one of these, all equally likely.
        rate: the probability of each slice to be shifted.
        displacement: shifts are whole voxels within +- this along both axes of the plane.
    """

    displacement: Positive = 10

    def change_slices(self, slices: np.ndarray, hit: np.ndarray, rng: np.random.Generator) -> None:
        for at in hit:
            shift = rng.integers(-self.displacement, self.displacement + 1, 2)
            slices[at] = np.roll(slices[at], shift, (-2, -1))


def _one_side(section: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    axis, near = 1 + int(rng.integers(2)), bool(rng.integers(2))
    size = section.shape[axis]
    length = max(1, round(size * fraction))
    along = np.moveaxis(section, axis, 0)
    return along[:length] if near else along[size - length :]


def _blur(section: np.ndarray, sigma: float, radius: int | None = None) -> None:
    for channel in section:
        write_levels(channel, blur(np.ascontiguousarray(channel, np.float32), sigma, radius))
