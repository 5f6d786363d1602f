"""Exact symmetries of the grid, applied to image and labels alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emseg.data.augment.checks import check_axes, check_probability
from emseg.data.augment.transform import Sample, Size, Transform
from emseg.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Flip(Transform):
    """Each of `axes` is reversed with probability `p`, independently of the others."""

    axes: Sequence[int] = (0, 1, 2)
    p: float = 0.5

    def __post_init__(self) -> None:
        check_axes(self.axes, owner=self)
        check_probability(self.p, owner=self)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        reversed_ = rng.random(len(self.axes)) < self.p
        # Counted from the end, an axis is the same in image (C, Z, Y, X) and labels (Z, Y, X).
        axes = tuple(axis - 3 for axis, yes in zip(self.axes, reversed_, strict=True) if yes)
        return sample.with_arrays(np.flip(sample.image, axes), np.flip(sample.labels, axes))


@dataclass(frozen=True, kw_only=True)
class Rot90(Transform):
    """With probability `p`, one, two or three quarter turns in the plane of two axes."""

    axes: tuple[int, int] = (1, 2)
    p: float = 0.5

    def __post_init__(self) -> None:
        check_axes(self.axes, owner=self)
        check_probability(self.p, owner=self)
        if len(self.axes) != 2:
            raise UserError(f"Rot90: axes {list(self.axes)} must be two axes")

    @property
    def equal_axes(self) -> tuple[int, ...]:
        return tuple(self.axes)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        turns = int(rng.integers(1, 4))
        plane = (self.axes[0] - 3, self.axes[1] - 3)
        return sample.with_arrays(
            np.rot90(sample.image, turns, plane), np.rot90(sample.labels, turns, plane)
        )


@dataclass(frozen=True, kw_only=True)
class Permute(Transform):
    """With probability `p`, `axes` change places: every order of them, the old one too, alike.

    Of two axes that is a transpose in half of the cases. After Flip over the same axes with p 0.5,
    all symmetries of the square (two axes) or the cube (three) are equally likely.
    """

    axes: Sequence[int] = (0, 1, 2)
    p: float = 1.0

    def __post_init__(self) -> None:
        check_axes(self.axes, owner=self)
        check_probability(self.p, owner=self)

    @property
    def equal_axes(self) -> tuple[int, ...]:
        return tuple(self.axes)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        order = [0, 1, 2]
        for axis, source in zip(self.axes, rng.permutation(self.axes), strict=True):
            order[axis] = int(source)
        channels_first = (0, *(axis + 1 for axis in order))
        return sample.with_arrays(
            sample.image.transpose(channels_first), sample.labels.transpose(order)
        )
