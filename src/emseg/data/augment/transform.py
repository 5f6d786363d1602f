"""The sample that transforms change at random, and the base classes of transforms.

A transform says how many voxels it needs around what it returns, and returns that much less:

    read     +-------------------+     crop of the volume, as large as all margins ask for
             |   +-----------+   |
    warp     |   |   +---+   |   |     each transform takes its margin off, whether it fires or not
    shift    |   |   |   |   |   |
    patch    |   |   +---+   |   |     what is left is the patch: nothing made up was ever in it
             |   +-----------+   |
             +-------------------+
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, dataclass_transform

import numpy as np

from emseg.bounds import Fraction, check_fields
from emseg.kernels.copies import owned

Size = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Sample:
    """An image and its labels.

    Attributes:
        image: (C, Z, Y, X), uint8 or float32 in [0, 1], perhaps a read-only view of a volume: to
            write into it use `own_image`; a writeable one may be changed in place.
        labels: (Z, Y, X), int32, perhaps a view; 0 background, -1 unlabelled.
        draw: reads another crop of a given size from the data set, not augmented, for transforms
            that mix two; None: there is no data set.
    """

    image: np.ndarray
    labels: np.ndarray
    draw: "Callable[[Size, np.random.Generator], Sample] | None" = None

    @property
    def size(self) -> Size:
        """The voxels per axis."""
        depth, height, width = self.labels.shape
        return depth, height, width

    def with_image(self, image: np.ndarray) -> "Sample":
        """The same labels with another image."""
        return Sample(image, self.labels, self.draw)

    def with_arrays(self, image: np.ndarray, labels: np.ndarray) -> "Sample":
        """Other image and labels, perhaps of another size."""
        return Sample(image, labels, self.draw)

    def own_image(self) -> np.ndarray:
        """The image if it is writeable and in C order, else a copy that is."""
        return owned(self.image)

    def centre(self, size: Size) -> "Sample":
        """The middle of the sample, a view."""
        if self.size == size:
            return self
        spare = [large - small for large, small in zip(self.size, size, strict=True)]
        if min(spare) < 0:
            raise ValueError(f"a sample of {self.size} has no middle of {size}")
        inside = tuple(slice(a // 2, a // 2 + n) for a, n in zip(spare, size, strict=True))
        return self.with_arrays(self.image[:, *inside], self.labels[inside])


class Transform(Protocol):
    """One change of a sample, or several."""

    @property
    def equal_axes(self) -> tuple[int, ...]:
        """Axes that it exchanges, along which the patch must have equal sizes."""
        return ()

    @property
    def in_sections(self) -> bool:
        """Whether it needs the planes across axis 0 to be sections."""
        return False

    def margin(self, size: Size) -> Size:
        """The voxels per axis that it needs beyond each face to return a sample of `size`."""
        return (0, 0, 0)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        """A sample of `size`, changed or just the middle, from one with the margin."""
        ...


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class RandomTransform(Transform):
    """The base of a transform that acts with probability `p`.

    A subclass has a method `change`, and overrides `margin` and the like if needed. Its annotated
    attributes are its settings, which become the fields of a frozen dataclass and are checked by
    the rules in their annotations (`emseg.bounds`).
    """

    p: Fraction = 0.5

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        return self.change(sample, size, rng)

    @abstractmethod
    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        """The changed sample of `size`, from one with the margin."""


class ImageTransform(RandomTransform):
    """The base of a random transform of the image alone: labels stay.

    Instead of `change` a subclass has `change_image`.
    """

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        image = sample.own_image()
        self.change_image(image, rng)
        return sample.with_image(image)

    @abstractmethod
    def change_image(self, image: np.ndarray, rng: np.random.Generator) -> None:
        """Change an image (C, Z, Y, X), uint8 or float32 in [0, 1], in place."""


def enlarged(size: Size, margin: Size) -> Size:
    """The size with the margin on both sides."""
    depth, height, width = (n + 2 * around for n, around in zip(size, margin, strict=True))
    return depth, height, width


def draw_sections(count: tuple[int, int], depth: int, rng: np.random.Generator) -> list[int]:
    """Distinct sections, in order; their number is drawn from `count`, at most all."""
    number = min(int(rng.integers(*count, endpoint=True)), depth)
    return sorted(int(z) for z in rng.choice(depth, number, replace=False))


def draw_box(
    size: tuple[int, ...], length: tuple[float, float], rng: np.random.Generator
) -> tuple[slice, ...]:
    """A box anywhere inside, whose sides are fractions of the size's drawn from `length`."""
    sides = [max(1, round(n * rng.uniform(*length))) for n in size]
    start = [int(rng.integers(n - side + 1)) for n, side in zip(size, sides, strict=True)]
    return tuple(slice(a, a + side) for a, side in zip(start, sides, strict=True))


def draw_quarters(
    section: tuple[int, int], rng: np.random.Generator
) -> Iterator[tuple[slice, slice]]:
    """The four quarters of a section around a random point, some perhaps empty."""
    row, column = (int(rng.integers(n + 1)) for n in section)
    for rows in (slice(0, row), slice(row, section[0])):
        for columns in (slice(0, column), slice(column, section[1])):
            yield rows, columns


def draw_power(gamma: tuple[float, float], rng: np.random.Generator) -> float:
    """A power whose logarithm is uniform over the interval."""
    low, high = gamma
    # A Python float: a numpy float would turn float32 images into float64.
    return math.exp(rng.uniform(math.log(low), math.log(high)))
