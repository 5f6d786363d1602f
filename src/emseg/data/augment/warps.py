"""Smooth deformations: image interpolated, labels of the nearest voxel, from a larger crop."""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from emseg.data.augment.checks import check_interval, check_probability
from emseg.data.augment.transform import Sample, Size, Transform
from emseg.errors import UserError
from emseg.kernels.warp import spline_field, warp_sections, warp_volume

# Voxels; places are float32, and must not fall off the crop by their rounding.
SLACK = 1e-3
NO_FIELD = np.zeros((0, 2, 1, 1), np.float32)
NO_VOLUME_FIELD = np.zeros((0, 3, 1, 1), np.float32)


@dataclass(frozen=True, kw_only=True)
class Affine(Transform):
    """With probability `p`, the sample is turned, scaled and sheared about its centre.

    Angles are uniform within +-`rotation` degrees about axes 0, 1, 2; each axis is magnified by
    a factor within 1 +- `scale`; a voxel moves along each axis by up to `shear` times its distance
    from the centre along each other axis, `shear` being that of the planes (1, 2), (0, 2), (0, 1).
    By default sections are turned within themselves. Distances are in voxels.

    The crop is as large as the strongest change needs, or `reach` voxels per axis at most: what is
    not seen then is 0 in the image and unlabelled.
    """

    rotation: tuple[float, float, float] = (45.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (0.0, 0.1, 0.1)
    shear: tuple[float, float, float] = (0.05, 0.0, 0.0)
    reach: tuple[int, int, int] | None = None
    p: float = 0.7

    def __post_init__(self) -> None:
        check_probability(self.p, owner=self)
        for name, values, most in (
            ("rotation", self.rotation, 180),
            ("scale", self.scale, 0.9),
            ("shear", self.shear, 1),
        ):
            if len(values) != 3 or not all(0 <= value <= most for value in values):
                raise UserError(
                    f"Affine: {name} {list(values)} must be three numbers from 0 to {most}"
                )
        if self.reach is not None and (len(self.reach) != 3 or min(self.reach) < 0):
            raise UserError(f"Affine: reach {list(self.reach)} must be three of 0 or more voxels")

    @property
    def in_sections(self) -> bool:
        return self._planar

    @property
    def _planar(self) -> bool:
        across = (*self.rotation[1:], self.scale[0], *self.shear[1:])
        return not any(across)

    def margin(self, size: Size) -> Size:
        extent = np.array([(n - 1) / 2 for n in size])
        # The corner farthest out, factor by factor in the order of `_matrix`.
        sheared = np.abs(_shears([(s, s) for s in self.shear])) @ (
            extent / (1 - np.array(self.scale))
        )
        reached = sheared
        for axis, degrees in enumerate(self.rotation):
            reached = _turned(reached, axis, math.radians(degrees))
        depth, height, width = (
            math.ceil(most - half + SLACK) for most, half in zip(reached, extent, strict=True)
        )
        if self._planar:
            depth = 0
        if self.reach is None:
            return depth, height, width
        return min(depth, self.reach[0]), min(height, self.reach[1]), min(width, self.reach[2])

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        matrix = self._matrix(rng)
        centre, there = _middle(size), _middle(sample.size)
        whole = np.column_stack([matrix, there - matrix @ centre])
        if self._planar:
            image, labels = warp_sections(
                sample.image,
                sample.labels,
                matrices=whole[np.newaxis, 1:, 1:].copy(),
                field=NO_FIELD,
                first=(sample.size[0] - size[0]) // 2,
                size=size,
            )
        else:
            image, labels = warp_volume(
                sample.image, sample.labels, matrix=whole, field=NO_VOLUME_FIELD, size=size
            )
        return sample.with_arrays(image, labels)

    def _matrix(self, rng: np.random.Generator) -> np.ndarray:
        """From a place in the result to its place in the sample, both from the centres."""
        matrix = np.diag(1 / (1 + rng.uniform(np.negative(self.scale), self.scale)))
        matrix = _shears([tuple(rng.uniform(-s, s, 2)) for s in self.shear]) @ matrix
        for axis, degrees in enumerate(self.rotation):
            matrix = _rotation(axis, math.radians(rng.uniform(-degrees, degrees))) @ matrix
        return matrix


@dataclass(frozen=True, kw_only=True)
class Elastic(Transform):
    """With probability `p`, a smooth random displacement, its largest drawn from an interval.

    Control points every `spacing` pixels within sections move independently, and cubic B-splines
    join them; the field is the same in all sections, or, with `section_spacing`, changes between
    control points that many sections apart. It is scaled so that the largest displacement along
    an axis, in pixels, is one number drawn from `displacement`. With `displacement_across` there
    is one across sections too, in sections. (The control points are those of gunpowder.)
    """

    displacement: tuple[float, float] = (2.0, 8.0)
    spacing: float = 40.0
    section_spacing: float | None = None
    displacement_across: tuple[float, float] | None = None
    p: float = 0.5

    def __post_init__(self) -> None:
        check_probability(self.p, owner=self)
        check_interval(self.displacement, name="displacement", owner=self, least=0)
        if self.displacement_across is not None:
            check_interval(
                self.displacement_across, name="displacement_across", owner=self, least=0
            )
        for name in ("spacing", "section_spacing"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise UserError(f"Elastic: {name} {value} must be 1 or more voxels")

    @property
    def in_sections(self) -> bool:
        return self.displacement_across is None

    def margin(self, size: Size) -> Size:
        within = math.ceil(self.displacement[1] + SLACK)
        if self.displacement_across is None:
            return 0, within, within
        return math.ceil(self.displacement_across[1] + SLACK), within, within

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        field = self._field(size, rng)
        around = [(a - b) // 2 for a, b in zip(sample.size, size, strict=True)]
        shift = np.column_stack([np.eye(3), around])
        if self.displacement_across is None:
            image, labels = warp_sections(
                sample.image,
                sample.labels,
                matrices=shift[np.newaxis, 1:, 1:].copy(),
                field=field,
                first=around[0],
                size=size,
            )
        else:
            image, labels = warp_volume(
                sample.image, sample.labels, matrix=shift, field=field, size=size
            )
        return sample.with_arrays(image, labels)

    def _field(self, size: Size, rng: np.random.Generator) -> np.ndarray:
        """Displacements (1 or Z, 2 or 3, Y, X), float32, in voxels."""
        limits = [self.displacement, self.displacement]
        if self.displacement_across is not None:
            limits.insert(0, self.displacement_across)
        rows, columns = _spline(size[1], self.spacing), _spline(size[2], self.spacing)
        steps = self.section_spacing
        sections = np.ones((1, 1), np.float32) if steps is None else _spline(size[0], steps)
        points = rng.uniform(
            -1, 1, (sections.shape[1], len(limits), rows.shape[1], columns.shape[1])
        ).astype(np.float32)
        # Matrices so small that threads of a linear algebra library would only wait on each other.
        joined = np.einsum("fz,zcyx->fcyx", sections, points)
        field = spline_field(rows, joined, columns)
        for axis, limit in enumerate(limits):
            part = field[:, axis]
            largest = max(float(np.abs(part).max()), 1e-6)
            part *= np.float32(rng.uniform(*limit) / largest)
        return field


def _spline(size: int, spacing: float) -> np.ndarray:
    """(size, control points): how much of each point's value a voxel takes; rows sum to 1."""
    at = np.arange(size) / spacing
    first = np.floor(at).astype(int)
    t = at - first
    weights = np.zeros((size, first[-1] + 4), np.float32)
    cubic = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    for step, part in enumerate(cubic):
        weights[np.arange(size), first + step] = part / 6
    return weights


def _middle(size: Size) -> np.ndarray:
    return (np.array(size) - 1) / 2


def _rotation(axis: int, angle: float) -> np.ndarray:
    first, second = (other for other in range(3) if other != axis)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def _shears(pairs: list[tuple[float, float]]) -> np.ndarray:
    matrix = np.eye(3)
    for (first, second), (there, back) in zip([(1, 2), (0, 2), (0, 1)], pairs, strict=True):
        matrix[first, second], matrix[second, first] = there, back
    return matrix


def _turned(extent: np.ndarray, axis: int, most: float) -> np.ndarray:
    """How far a box of half sizes `extent` reaches when it is turned by up to `most`."""
    first, second = (other for other in range(3) if other != axis)
    reached = extent.copy()
    for one, other in product((first, second), repeat=2):
        if one != other:
            # The corner reaches farthest where it lies on the axis.
            angle = min(most, math.atan2(extent[other], extent[one]))
            reached[one] = extent[one] * math.cos(angle) + extent[other] * math.sin(angle)
    return reached
