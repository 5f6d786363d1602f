"""The sample that augmentation works on, and how transforms follow and exclude each other.

A transform says how many voxels it needs around what it returns, and returns that much less:

    read     +-------------------+     crop of the volume, as large as all margins ask for
             |   +-----------+   |
    warp     |   |   +---+   |   |     each transform takes its margin off, whether it fires or not
    shift    |   |   |   |   |   |
    patch    |   |   +---+   |   |     what is left is the patch: nothing made up was ever in it
             |   +-----------+   |
             +-------------------+
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from emseg.data.augment.checks import check_probability
from emseg.errors import UserError, unknown_name
from emseg.kernels.copies import owned

Size = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Sample:
    """An image (C, Z, Y, X), uint8 or float32 in [0, 1], and its labels (Z, Y, X), int32.

    Label 0 is background, -1 unlabelled. The arrays may be read-only views of a volume: who
    writes into the image takes `own_image`, so that a writeable one may be changed in place.
    `draw` reads another crop of a size from the data set, not augmented, for transforms that mix
    two.
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
        """Another image and labels of what may be another size."""
        return Sample(image, labels, self.draw)

    def own_image(self) -> np.ndarray:
        """The image where it may be written to and lies in C order, else a copy that does."""
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
    """One random change of a sample; the class says how likely it is."""

    @property
    def equal_axes(self) -> tuple[int, ...]:
        """Axes that it exchanges, on which the patch must have one size."""
        return ()

    @property
    def in_sections(self) -> bool:
        """Whether it takes the planes across axis 0 for sections."""
        return False

    def margin(self, size: Size) -> Size:
        """Voxels per axis that it needs beyond each face to return a sample of `size`."""
        return (0, 0, 0)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        """A sample of `size` from one that has the margin around it, changed or its middle."""
        ...


class _Group(Transform):
    """Several named transforms, of which `_active` are there."""

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
        """Nothing, or a UserError for a transform that such patches are not made for.

        That is one which exchanges axes of unequal size, or takes for sections what are none in
        volumes with these stored `axes`. `where` is the group's key.
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
    """Named transforms, applied in the order in which they are named.

    None takes one away, and one with a `p` of 0 is not there: it needs no margin.
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
        """Each transform, in order, with what it takes and gives: later margins add up."""
        # Every sample of a data set has one size.
        if size not in self._plans:
            plan: list[tuple[Transform, Size, Size]] = []
            wanted = size
            for transform in reversed(self._active.values()):
                given = _squared(wanted, transform.equal_axes)
                wanted = _larger(given, transform.margin(given))
                plan.insert(0, (transform, wanted, given))
            self._plans[size] = plan
        return self._plans[size]


@dataclass(kw_only=True)
class OneOf(_Group):
    """With probability `p`, one of the named transforms, by `weights` (null: all alike).

    Every transform has a weight then; weights are relative. One with a weight of 0 is not there:
    it needs no margin.
    """

    transforms: dict[str, Transform | None] = field(default_factory=dict)
    weights: dict[str, float] | None = None
    p: float = 1.0

    def __post_init__(self) -> None:
        check_probability(self.p, owner=self)
        self._active = _active(self.transforms)
        weights = dict.fromkeys(self._active, 1.0) if self.weights is None else self.weights
        for name in weights:
            if name not in self.transforms:
                raise unknown_name("transform", name, self.transforms, where="OneOf.weights")
        bare = [name for name in self._active if name not in weights]
        if bare:
            raise UserError(f"OneOf.weights: {', '.join(bare)} has none; weigh all or none (null)")
        chances = np.array([weights[name] for name in self._active], np.float64)
        if not (chances >= 0).all() or not 0 < chances.sum() < np.inf:
            raise UserError(
                "OneOf: it needs transforms, and weights from 0 up of which one is above 0"
            )
        self._active = {name: t for name, t in self._active.items() if weights[name] > 0}
        self._chances = chances[chances > 0] / chances.sum()

    def margin(self, size: Size) -> Size:
        margins = [transform.margin(size) for transform in self._active.values()]
        most = [max(axis) for axis in zip(*margins, strict=True)]
        return most[0], most[1], most[2]

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        transform = list(self._active.values())[rng.choice(len(self._chances), p=self._chances)]
        return transform(sample.centre(_larger(size, transform.margin(size))), size, rng)


def _active(transforms: Mapping[str, Transform | None]) -> dict[str, Transform]:
    for name, transform in transforms.items():
        if transform is not None and not callable(transform):
            raise UserError(f"transforms.{name}: {transform!r} is no transform")
    return {name: t for name, t in transforms.items() if t is not None}


def _larger(size: Size, margin: Size) -> Size:
    depth, height, width = (n + 2 * around for n, around in zip(size, margin, strict=True))
    return depth, height, width


def _squared(size: Size, axes: Sequence[int]) -> Size:
    """The size with the largest of `axes` on all of them."""
    widest = max((size[axis] for axis in axes), default=0)
    depth, height, width = (widest if axis in axes else n for axis, n in enumerate(size))
    return depth, height, width
