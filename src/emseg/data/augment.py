"""The sample that augmentation works on, and the order in which transforms follow each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from emseg.errors import UserError


@dataclass(frozen=True)
class Sample:
    """An image (C, Z, Y, X), float32 in [0, 1], and its labels (Z, Y, X), int32.

    Label 0 is background, -1 unlabelled. A sample owns its arrays: a transform may write into
    them.
    """

    image: np.ndarray
    labels: np.ndarray


class Transform(Protocol):
    """One random change of a sample; the subclass says how likely it is.

    `margin` is what it needs around the patch: voxels per axis that are read beyond each face and
    cut away after the last transform, so that nothing made up is ever seen. `equal_axes` are axes
    that it exchanges, on which the patch must have one size.
    """

    @property
    def margin(self) -> tuple[int, int, int]:
        return (0, 0, 0)

    @property
    def equal_axes(self) -> tuple[int, ...]:
        return ()

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample: ...


@dataclass(kw_only=True)
class Pipeline:
    """Named transforms, applied in the order in which they are named; None takes one away."""

    transforms: dict[str, Transform | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, transform in self.transforms.items():
            if transform is not None and not callable(transform):
                raise UserError(f"augment.transforms.{name}: {transform!r} is no transform")
        self._active = {name: t for name, t in self.transforms.items() if t is not None}

    @property
    def margin(self) -> tuple[int, int, int]:
        """Voxels per axis to read beyond each face of the patch: what all transforms need at worst.

        Later transforms see what earlier ones moved, so margins add up; axes that are exchanged
        all get the largest.
        """
        total = np.zeros(3, dtype=np.int64)
        for transform in self._active.values():
            total += transform.margin
        exchanged = sorted({axis for t in self._active.values() for axis in t.equal_axes})
        if exchanged:
            total[exchanged] = total[exchanged].max()
        return int(total[0]), int(total[1]), int(total[2])

    def check(self, patch_size: Sequence[int]) -> None:
        """Nothing, or a UserError when a transform exchanges axes of unequal size."""
        for name, transform in self._active.items():
            if len({patch_size[axis] for axis in transform.equal_axes}) > 1:
                raise UserError(
                    f"augment.transforms.{name} exchanges axes {list(transform.equal_axes)}, on "
                    f"which the patch {list(patch_size)} must have one size"
                )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample after every transform; its margin is still on it."""
        for transform in self._active.values():
            sample = transform(sample, rng)
        return sample


def check_probability(p: float, *, owner: object) -> None:
    """Nothing, or a UserError when `p` is no probability."""
    if not 0 <= p <= 1:
        raise UserError(f"{type(owner).__name__}: p={p} must be between 0 and 1")


def check_axes(axes: Sequence[int], *, owner: object) -> None:
    """Nothing, or a UserError when `axes` are not different axes out of 0, 1, 2."""
    if not axes or len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
        raise UserError(
            f"{type(owner).__name__}: axes {list(axes)} must be different ones of 0, 1, 2"
        )


def check_interval(
    interval: Sequence[float], *, name: str, owner: object, least: float = -np.inf
) -> None:
    """Nothing, or a UserError when `interval` is not [lo, hi] with least <= lo <= hi."""
    if len(interval) != 2 or not least <= interval[0] <= interval[1]:
        bound = f" from {least:g} up" if np.isfinite(least) else ""
        raise UserError(
            f"{type(owner).__name__}: {name} {list(interval)} must be [lo, hi]{bound} with lo <= hi"
        )
