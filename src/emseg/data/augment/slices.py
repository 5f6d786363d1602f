"""Defects of single slices across any axis, as BANIS has them for isotropic volumes: image only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emseg.data.augment.checks import check_axes, check_probability
from emseg.data.augment.grey_values import grey
from emseg.data.augment.transform import Sample, Size, Transform
from emseg.errors import UserError


@dataclass(frozen=True, kw_only=True)
class DropSlices(Transform):
    """With probability `p`, slices across one of `axes` are lost: each holds the value `fill`.

    The axes are alike, and each slice is lost with probability `rate`.
    """

    axes: Sequence[int] = (0, 1, 2)
    rate: float = 0.05
    fill: float = 0.0
    p: float = 0.5

    def __post_init__(self) -> None:
        _check(self, self.axes, self.rate, self.p)
        if not 0 <= self.fill <= 1:
            raise UserError(f"DropSlices: fill {self.fill} must be an intensity in [0, 1]")

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        axis = int(rng.choice(self.axes))
        image = sample.own_image()
        lost = rng.random(size[axis]) < self.rate
        np.moveaxis(image, 1 + axis, 0)[lost] = grey(self.fill, image.dtype)
        return sample.with_image(image)


@dataclass(frozen=True, kw_only=True)
class ShiftSlices(Transform):
    """With probability `p`, slices across one of `axes` are shifted within their plane.

    The axes are alike, and each slice is shifted with probability `rate`, by whole voxels within
    +-`displacement` along both axes of its plane. What leaves at one side comes in at the other.
    """

    axes: Sequence[int] = (0, 1, 2)
    rate: float = 0.05
    displacement: int = 10
    p: float = 0.5

    def __post_init__(self) -> None:
        _check(self, self.axes, self.rate, self.p)
        if self.displacement < 1:
            raise UserError(f"ShiftSlices: displacement {self.displacement} must be 1 or more")

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample
        axis = int(rng.choice(self.axes))
        image = sample.own_image()
        slices = np.moveaxis(image, 1 + axis, 0)
        for at in np.flatnonzero(rng.random(size[axis]) < self.rate):
            shift = rng.integers(-self.displacement, self.displacement + 1, 2)
            slices[at] = np.roll(slices[at], shift, (-2, -1))
        return sample.with_image(image)


def _check(owner: object, axes: Sequence[int], rate: float, p: float) -> None:
    check_axes(axes, owner=owner)
    check_probability(p, owner=owner)
    check_probability(rate, name="rate", owner=owner)
