"""Sections that do not lie where they should, or are gone: image and labels move together."""

from dataclasses import dataclass

import numpy as np

from emseg.data.augment.checks import check_interval, check_probability
from emseg.data.augment.grey_values import grey
from emseg.data.augment.transform import Sample, Size, Transform
from emseg.data.augment.warps import Affine
from emseg.errors import UserError
from emseg.kernels.copies import copy_planes


@dataclass(frozen=True, kw_only=True)
class Misalignment(Transform):
    """With probability `p`, all sections from a random one on are shifted within their plane.

        before the cut   ------[=========]------
        missing          ------  . . . .  ------     `missing` sections, their labels in between
        after the cut    ----------[=========]--

    The shift along each axis is a whole number of pixels within +-`displacement`, not zero along
    both; with `rotation` they are also turned by up to so many degrees, about the centre. Image
    and labels move. A number of sections drawn from `missing` at the cut hold no image, but each
    one number drawn from `fill`; their labels are shifted in equal steps from one side to the
    other, and not turned.
    (DeepEM's translation, and its missing sections at a misalignment.)
    """

    displacement: int = 16
    rotation: float = 0.0
    missing: tuple[int, int] = (0, 0)
    fill: tuple[float, float] = (0.0, 0.0)
    p: float = 0.5

    in_sections = True

    def __post_init__(self) -> None:
        _check_displacement(self.displacement, self)
        if not 0 <= self.rotation <= 90:
            raise UserError(f"Misalignment: rotation {self.rotation} must be from 0 to 90 degrees")
        check_interval(self.missing, name="missing", owner=self, least=0)
        check_interval(self.fill, name="fill", owner=self, least=0, most=1)
        check_probability(self.p, owner=self)

    def margin(self, size: Size) -> Size:
        turned = self._turn.margin(size) if self.rotation else (0, 0, 0)
        return 0, turned[1] + self.displacement, turned[2] + self.displacement

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        depth = size[0]
        count = min(int(rng.integers(self.missing[0], self.missing[1] + 1)), max(depth - 2, 0))
        # At least one section on each side, where there are so many.
        cut = int(rng.integers(1, max(depth - count, 2)))
        shift = _shift(self.displacement, rng)
        image, labels = _empty_arrays(sample, size)
        _place(sample, image, labels, slice(0, cut), np.zeros(2, int))
        for step in range(1, count + 1):
            at = cut + step - 1
            part = np.rint(shift * step / (count + 1)).astype(int)
            _place(sample, image, labels, slice(at, at + 1), part)
            image[:, at] = grey(rng.uniform(*self.fill), image.dtype)
        after = slice(cut + count, depth)
        if self.rotation:
            self._place_turned(sample, image, labels, after, shift, rng)
        else:
            _place(sample, image, labels, after, shift)
        return sample.with_arrays(image, labels)

    @property
    def _turn(self) -> Affine:
        zero = (0.0, 0.0, 0.0)
        return Affine(rotation=(self.rotation, 0.0, 0.0), scale=zero, shear=zero, p=1.0)

    def _place_turned(
        self,
        sample: Sample,
        image: np.ndarray,
        labels: np.ndarray,
        sections: slice,
        shift: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        part: Size = (sections.stop - sections.start, *labels.shape[1:])  # type: ignore[assignment]
        margin = self._turn.margin(part)
        inside = [
            slice((n - size) // 2 - around + move, (n + size) // 2 + around + move)
            for n, size, around, move in zip(
                sample.size[1:], part[1:], margin[1:], shift, strict=True
            )
        ]
        larger = sample.with_arrays(
            sample.image[:, sections, *inside], sample.labels[sections, *inside]
        )
        turned = self._turn(larger, part, rng)
        image[:, sections], labels[sections] = turned.image, turned.labels


@dataclass(frozen=True, kw_only=True)
class Slip(Transform):
    """With probability `p`, a few single sections are shifted within their plane, those after not.

    Their number is drawn from `sections`; the shift is as of Misalignment. Labels stay, so that
    what is predicted is where the tissue was, or go along with `move_labels`. (DeepEM's slip.)
    """

    displacement: int = 16
    sections: tuple[int, int] = (1, 1)
    move_labels: bool = False
    p: float = 0.5

    in_sections = True

    def __post_init__(self) -> None:
        _check_displacement(self.displacement, self)
        check_interval(self.sections, name="sections", owner=self, least=1)
        check_probability(self.p, owner=self)

    def margin(self, size: Size) -> Size:
        return 0, self.displacement, self.displacement

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        image, labels = _empty_arrays(sample, size)
        _place(sample, image, labels, slice(0, size[0]), np.zeros(2, int))
        for at in draw_sections(self.sections, size[0], rng):
            stay = labels[at].copy()
            shift = _shift(self.displacement, rng)
            _place(sample, image, labels, slice(at, at + 1), shift)
            if not self.move_labels:
                labels[at] = stay
        return sample.with_arrays(image, labels)


@dataclass(frozen=True, kw_only=True)
class SectionShifts(Transform):
    """With probability `p`, each section but the first is hit with probability `rate`, and shifted.

    The shift within its plane is as of Misalignment. With `follow` the first that is hit takes all
    after it along, and there is no other. Labels stay, as of a Slip, or go along with
    `move_labels`. (SSNS-Net's misalignments.)
    """

    displacement: int = 17
    rate: float = 0.2
    follow: bool = False
    move_labels: bool = False
    p: float = 0.5

    in_sections = True

    def __post_init__(self) -> None:
        _check_displacement(self.displacement, self)
        check_probability(self.rate, name="rate", owner=self)
        check_probability(self.p, owner=self)

    def margin(self, size: Size) -> Size:
        return 0, self.displacement, self.displacement

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        image, labels = _empty_arrays(sample, size)
        _place(sample, image, labels, slice(0, size[0]), np.zeros(2, int))
        stay = None if self.move_labels else labels.copy()
        hit = 1 + np.flatnonzero(rng.random(size[0] - 1) < self.rate)
        for at in hit[:1] if self.follow else hit:
            stop = size[0] if self.follow else at + 1
            _place(sample, image, labels, slice(at, stop), _shift(self.displacement, rng))
        return sample.with_arrays(image, labels if stay is None else stay)


@dataclass(frozen=True, kw_only=True)
class LostSections(Transform):
    """With probability `p`, a few neighbouring sections are not there: the others close up.

    Their number is drawn from `sections`; image and labels lose them, and the stack is read deeper
    by as many.
    """

    sections: tuple[int, int] = (1, 1)
    p: float = 0.3

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.sections, name="sections", owner=self, least=1)
        check_probability(self.p, owner=self)

    def margin(self, size: Size) -> Size:
        return (self.sections[1] + 1) // 2, 0, 0

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        count = int(rng.integers(self.sections[0], self.sections[1] + 1))
        first = (sample.size[0] - size[0] - count) // 2
        cut = int(rng.integers(1, max(size[0], 2)))
        kept = [first + z + (count if z >= cut else 0) for z in range(size[0])]
        return sample.with_arrays(sample.image[:, kept], sample.labels[kept])


def draw_sections(count: tuple[int, int], depth: int, rng: np.random.Generator) -> list[int]:
    """Different sections, in order; their number is drawn from `count`, or all where so many."""
    number = min(int(rng.integers(count[0], count[1] + 1)), depth)
    return sorted(int(z) for z in rng.choice(depth, number, replace=False))


def _check_displacement(displacement: int, owner: object) -> None:
    if displacement < 1:
        raise UserError(
            f"{type(owner).__name__}: displacement {displacement} must be 1 or more pixels"
        )


def _shift(most: int, rng: np.random.Generator) -> np.ndarray:
    """Whole pixels along axes 1 and 2, each place within +-`most` but the old one alike."""
    side = 2 * most + 1
    place = int(rng.integers(side * side - 1))
    place += place >= side * side // 2
    return np.array(divmod(place, side)) - most


def _empty_arrays(sample: Sample, size: Size) -> tuple[np.ndarray, np.ndarray]:
    image = np.empty((len(sample.image), *size), sample.image.dtype)
    return image, np.empty(size, sample.labels.dtype)


def _place(
    sample: Sample, image: np.ndarray, labels: np.ndarray, sections: slice, shift: np.ndarray
) -> None:
    """Write the sections of the sample, seen `shift` from its middle, into image and labels."""
    inside = [
        slice((n - size) // 2 + move, (n + size) // 2 + move)
        for n, size, move in zip(sample.size[1:], labels.shape[1:], shift, strict=True)
    ]
    copy_planes(sample.image[:, sections, *inside], image[:, sections])
    copy_planes(sample.labels[sections, *inside], labels[sections])
