"""Sequences of transforms, and random choices of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from emseg.bounds import Fraction, check_fields
from emseg.data.augment.transform import Sample, Size, Transform, enlarged
from emseg.errors import UserError, unknown_name


class _Group(Transform):
    """Several named transforms, of which `_active` are used."""

    _active: dict[str, Transform]

    @property
    def equal_axes(self) -> tuple[int, ...]:
        return tuple(sorted({axis for t in self._active.values() for axis in t.equal_axes}))

    @property
    def in_sections(self) -> bool:
        return any(transform.in_sections for transform in self._active.values())

    def check(
        self, patch_size: Sequence[int], axes: str = "zyx", *, where: str = "augment"
    ) -> None:
        """Checks that the transforms fit such patches.

        Args:
            patch_size: voxels per axis.
            axes: the stored axes of the volumes that patches are cut from.
            where: the group's key, for messages.

        Raises:
            UserError: for a transform that exchanges axes of unequal size, or needs sections along
            an axis that has none in volumes with these axes.
        """
        for name, transform in self._active.items():
            if transform.in_sections and axes[0] != "z":
                raise UserError(
                    f"{where}.transforms.{name} is for sections across the first axis, which is "
                    f"{axes[0]} in volumes stored as {axes}: set it to null, or choose another "
                    f"{where.partition('.')[0]}"
                )
            if len({patch_size[axis] for axis in transform.equal_axes}) > 1:
                raise UserError(
                    f"{where}.transforms.{name} exchanges axes {list(transform.equal_axes)}, on "
                    f"which the patch {list(patch_size)} must have one size"
                )


@dataclass(kw_only=True)
class Pipeline(_Group):
    """Named transforms, applied in the given order.

    Args:
        transforms: None removes one; one with a `p` of 0 is left out and needs no margin.
    """

    transforms: dict[str, Transform | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        there = _active(self.transforms)
        self._active = {name: t for name, t in there.items() if getattr(t, "p", 1) > 0}
        self._plans: dict[Size, list[tuple[Transform, Size, Size]]] = {}

    def margin(self, size: Size) -> Size:
        plan = self._plan(size)
        taken = plan[0][1] if plan else size
        depth, height, width = ((a - b) // 2 for a, b in zip(taken, size, strict=True))
        return depth, height, width

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        for transform, taken, given in self._plan(size):
            sample = transform(sample.centre(taken), given, rng)
        return sample.centre(size)

    def _plan(self, size: Size) -> list[tuple[Transform, Size, Size]]:
        """Each transform, in order, with its input and output size: later margins add up."""
        # All samples of a data set have one size.
        if size not in self._plans:
            plan: list[tuple[Transform, Size, Size]] = []
            wanted = size
            for transform in reversed(self._active.values()):
                given = _squared(wanted, transform.equal_axes)
                wanted = enlarged(given, transform.margin(given))
                plan.insert(0, (transform, wanted, given))
            self._plans[size] = plan
        return self._plans[size]


@dataclass(kw_only=True)
class OneOf(_Group):
    """With probability `p`, one of the named transforms.

    Args:
        transforms: None removes one.
        weights: relative, one for every transform; one with a weight of 0 is left out: it needs no
            margin. None: all are equally likely.
        p: 0 to 1.

    Raises:
        UserError: weights that name no transform, leave one out, are negative or all 0.
    """

    transforms: dict[str, Transform | None] = field(default_factory=dict)
    weights: dict[str, float] | None = None
    p: Fraction = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        there = _active(self.transforms)
        weights = dict.fromkeys(there, 1.0) if self.weights is None else self.weights
        for name in weights:
            if name not in self.transforms:
                raise unknown_name("transform", name, self.transforms, where="OneOf.weights")
        bare = [name for name in there if name not in weights]
        if bare:
            raise UserError(f"OneOf.weights: {', '.join(bare)} has none; weigh all or none (null)")
        chances = np.array([weights[name] for name in there], np.float64)
        if not (chances >= 0).all() or not 0 < chances.sum() < np.inf:
            raise UserError(
                f"OneOf: weights={self.weights} must be 0 or more, one of them above 0, "
                "of one transform or more"
            )
        self._active = {name: t for name, t in there.items() if weights[name] > 0}
        self._chances = chances[chances > 0] / chances.sum()

    def margin(self, size: Size) -> Size:
        margins = [transform.margin(size) for transform in self._active.values()]
        most = [max(axis) for axis in zip(*margins, strict=True)]
        return most[0], most[1], most[2]

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        transform = list(self._active.values())[rng.choice(len(self._chances), p=self._chances)]
        return transform(sample.centre(enlarged(size, transform.margin(size))), size, rng)


def _active(transforms: Mapping[str, Transform | None]) -> dict[str, Transform]:
    for name, transform in transforms.items():
        if transform is not None and not callable(transform):
            raise UserError(f"transforms.{name}: {transform!r} is no transform")
    return {name: t for name, t in transforms.items() if t is not None}


def _squared(size: Size, axes: Sequence[int]) -> Size:
    """The size with the largest of `axes` on all of them."""
    widest = max((size[axis] for axis in axes), default=0)
    depth, height, width = (widest if axis in axes else n for axis, n in enumerate(size))
    return depth, height, width
