"""Displaced or missing sections: image and labels move together."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated

import numpy as np

from emseg.bounds import Count, Fraction, Fractions, Positive, interval, within
from emseg.data.augment.grey_values import grey
from emseg.data.augment.transform import RandomTransform, Sample, Size, draw_sections, enlarged
from emseg.data.augment.warps import Affine
from emseg.kernels.copies import copy_planes


class Misalignment(RandomTransform):
    """With probability `p`, all sections from a random one on are shifted within their plane.

        before the cut   ------[=========]------
        missing          ------  . . . .  ------     `missing` sections, their labels in between
        after the cut    ----------[=========]--

    Image and labels move. (DeepEM's translation, and its missing sections at a misalignment.)

    Args:
        displacement: the shift along each axis is a whole number of pixels, within +-
            `displacement`, not zero along both.
        rotation: they are also rotated by up to so many degrees both ways, about the centre.
        missing: the number of sections at the cut that have no image, drawn from [lo, hi]; their
            labels are shifted in equal steps from one side to the other, and not rotated.
        fill: the value of each of these, drawn from [lo, hi].
    """

    displacement: Positive = 16
    rotation: Annotated[float, within(0, 90)] = 0.0
    missing: Annotated[tuple[int, int], interval(0)] = (0, 0)
    fill: Fractions = (0.0, 0.0)
    in_sections = True

    def margin(self, size: Size) -> Size:
        _, height, width = self._turn.margin(size) if self.rotation else (0, 0, 0)
        return 0, height + self.displacement, width + self.displacement

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        depth = size[0]
        count = min(int(rng.integers(*self.missing, endpoint=True)), max(depth - 2, 0))
        # At least one section on each side, if there are so many.
        cut = int(rng.integers(1, max(depth - count, 2)))
        shift = _draw_shift(self.displacement, rng)
        result = _blank(sample, size)
        _place(result, 0, _shifted(sample, slice(0, cut), size, np.zeros(2, int)))
        for step in range(1, count + 1):
            at = cut + step - 1
            between = np.rint(shift * step / (count + 1)).astype(int)
            _place(result, at, _shifted(sample, slice(at, at + 1), size, between))
            result.image[:, at] = grey(rng.uniform(*self.fill), result.image.dtype)
        after: Size = (depth - cut - count, *size[1:])
        seen = enlarged(after, self._turn.margin(after)) if self.rotation else after
        moved = _shifted(sample, slice(cut + count, depth), seen, shift)
        _place(result, cut + count, self._turn(moved, after, rng) if self.rotation else moved)
        return result

    @property
    def _turn(self) -> Affine:
        zero = (0.0, 0.0, 0.0)
        return Affine(rotation=(self.rotation, 0.0, 0.0), scale=zero, shear=zero, p=1.0)


class _SectionMoves(RandomTransform):
    displacement: Positive = 16
    move_labels: bool = False
    in_sections = True

    def margin(self, size: Size) -> Size:
        return 0, self.displacement, self.displacement

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        result = _blank(sample, size)
        _place(result, 0, sample.centre(size))
        for moved in self.draw_moved(size[0], rng):
            shift = _draw_shift(self.displacement, rng)
            _place(result, moved.start, _shifted(sample, moved, size, shift))
        return result if self.move_labels else sample.centre(size).with_image(result.image)

    @abstractmethod
    def draw_moved(self, depth: int, rng: np.random.Generator) -> Iterator[slice]:
        """The sections, or runs of them, that are shifted."""


class Slip(_SectionMoves):
    """With probability `p`, a few single sections are shifted within their plane, not those after.

    (DeepEM's slip.)

    Args:
        displacement: as of Misalignment.
        move_labels: else labels stay, so that the target is the original place of the tissue.
        sections: their number, drawn from [lo, hi].
    """

    sections: Count = (1, 1)

    def draw_moved(self, depth: int, rng: np.random.Generator) -> Iterator[slice]:
        for at in draw_sections(self.sections, depth, rng):
            yield slice(at, at + 1)


class SectionShifts(_SectionMoves):
    """With probability `p`, sections are shifted within their plane (SSNS-Net's misalignments).

    Args:
        displacement: as of Misalignment.
        move_labels: else labels stay, as in a Slip.
        rate: the probability of each section but the first to be shifted.
        follow: only the first of them counts, and all sections after it move with it.
    """

    displacement: Positive = 17
    rate: Fraction = 0.2
    follow: bool = False

    def draw_moved(self, depth: int, rng: np.random.Generator) -> Iterator[slice]:
        hit = 1 + np.flatnonzero(rng.random(depth - 1) < self.rate)
        for at in hit[:1] if self.follow else hit:
            yield slice(at, depth if self.follow else at + 1)


class LostSections(RandomTransform):
    """With probability `p`, a few neighbouring sections are removed, without a gap.

    They are removed from image and labels, and as many more sections are read.

    Args:
        sections: their number, drawn from [lo, hi].
    """

    sections: Count = (1, 1)
    p: Fraction = 0.3
    in_sections = True

    def margin(self, size: Size) -> Size:
        return (self.sections[1] + 1) // 2, 0, 0

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        count = int(rng.integers(*self.sections, endpoint=True))
        first = (sample.size[0] - size[0] - count) // 2
        cut = int(rng.integers(1, max(size[0], 2)))
        left = [first + z + (count if z >= cut else 0) for z in range(size[0])]
        return sample.with_arrays(sample.image[:, left], sample.labels[left])


def _draw_shift(most: int, rng: np.random.Generator) -> np.ndarray:
    """Whole pixels along axes 1 and 2, uniform within +-`most`, but not both 0."""
    side = 2 * most + 1
    place = int(rng.integers(side * side - 1))
    place += place >= side * side // 2
    return np.array(divmod(place, side)) - most


def _blank(sample: Sample, size: Size) -> Sample:
    image = np.empty((len(sample.image), *size), sample.image.dtype)
    return sample.with_arrays(image, np.empty(size, sample.labels.dtype))


def _shifted(sample: Sample, sections: slice, size: Size, shift: np.ndarray) -> Sample:
    """Some sections, cropped to the size within them, at `shift` from their middle."""
    inside = [
        slice((n - part) // 2 + move, (n + part) // 2 + move)
        for n, part, move in zip(sample.size[1:], size[1:], shift, strict=True)
    ]
    return sample.with_arrays(sample.image[:, sections, *inside], sample.labels[sections, *inside])


def _place(result: Sample, first: int, sections: Sample) -> None:
    """Writes the sections over those of the result, from `first` on."""
    to = slice(first, first + sections.size[0])
    copy_planes(sections.image, result.image[:, to])
    copy_planes(sections.labels, result.labels[to])
