"""Exact symmetries of the grid, applied to image and labels alike."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np

from emseg.bounds import Fraction, Rule
from emseg.data.augment.transform import RandomTransform, Sample, Size


def _are_different_axes(axes: Sequence[int]) -> bool:
    return len(axes) > 0 and len(set(axes)) == len(axes) and set(axes) <= {0, 1, 2}


AXES = Rule("different ones of 0, 1, 2", _are_different_axes)
PLANE = Rule(f"two {AXES.words}", lambda axes: len(axes) == 2 and AXES.holds(axes))


class Flip(RandomTransform):
    """Each of `axes` is reversed with probability `p`, independently of the others."""

    axes: Annotated[Sequence[int], AXES] = (0, 1, 2)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        # Whether it acts is drawn for each axis.
        return self.change(sample, size, rng)

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        reversed_ = rng.random(len(self.axes)) < self.p
        # Counted from the end, an axis is the same in image (C, Z, Y, X) and labels (Z, Y, X).
        axes = tuple(axis - 3 for axis, yes in zip(self.axes, reversed_, strict=True) if yes)
        return sample.with_arrays(np.flip(sample.image, axes), np.flip(sample.labels, axes))


class Rot90(RandomTransform):
    """With probability `p`, a rotation by 90, 180 or 270 degrees in the plane of two axes.

    Args:
        axes: the two; the patch has one size along them.
    """

    axes: Annotated[tuple[int, int], PLANE] = (1, 2)

    @property
    def equal_axes(self) -> tuple[int, ...]:
        return tuple(self.axes)

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        turns = int(rng.integers(1, 4))
        plane = (self.axes[0] - 3, self.axes[1] - 3)
        return sample.with_arrays(
            np.rot90(sample.image, turns, plane), np.rot90(sample.labels, turns, plane)
        )


class Permute(RandomTransform):
    """With probability `p`, axes are permuted: all orders, the old one too, are equally likely.

    For two axes that is a transpose in half of the cases. After Flip over the same axes with p 0.5,
    all symmetries of the square (two axes) or the cube (three) are equally likely.

    Args:
        axes: those; the patch has one size along them.
    """

    axes: Annotated[Sequence[int], AXES] = (0, 1, 2)
    p: Fraction = 1.0

    @property
    def equal_axes(self) -> tuple[int, ...]:
        return tuple(self.axes)

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        order = [0, 1, 2]
        for axis, source in zip(self.axes, rng.permutation(self.axes), strict=True):
            order[axis] = int(source)
        channels_first = (0, *(axis + 1 for axis in order))
        return sample.with_arrays(
            sample.image.transpose(channels_first), sample.labels.transpose(order)
        )
