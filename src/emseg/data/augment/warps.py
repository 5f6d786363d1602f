"""Smooth deformations of a larger crop: interpolated images, labels of the nearest voxel."""

import math
from typing import Annotated

import numpy as np

from emseg.bounds import Fraction, NotNegative, interval, within
from emseg.data.augment.transform import RandomTransform, Sample, Size, draw_power
from emseg.kernels.warp import spline_field, warp_sections, warp_volume

# Voxels; positions are float32, and rounding must not move them out of the crop.
SLACK = 1e-3
Angle = Annotated[float, within(0, 180)]
Scale = Annotated[float, within(0, 0.9)]
Reach = Annotated[int, within(0)]


class Affine(RandomTransform):
    """With probability `p`, the sample is rotated, scaled and sheared about its centre.

    By default sections are rotated within their plane. Distances are in voxels.

    Args:
        rotation: degrees; angles about axes 0, 1, 2 are uniform within +- these.
        scale: each axis is magnified by a factor within 1 +- this.
        shear: a voxel moves along each axis by up to `shear` times its distance from the centre
            along each other axis, `shear` being that of the planes (1, 2), (0, 2), (0, 1).
        reach: the margin is as large as the strongest change needs, but at most so many voxels per
            axis: places beyond it are 0 in the image and unlabelled. None: no limit.
    """

    rotation: tuple[Angle, Angle, Angle] = (45.0, 0.0, 0.0)
    scale: tuple[Scale, Scale, Scale] = (0.0, 0.1, 0.1)
    shear: tuple[Fraction, Fraction, Fraction] = (0.05, 0.0, 0.0)
    reach: tuple[Reach, Reach, Reach] | None = None
    p: Fraction = 0.7

    @property
    def in_sections(self) -> bool:
        across = (*self.rotation[1:], self.scale[0], *self.shear[1:])
        return not any(across)

    def margin(self, size: Size) -> Size:
        extent = middle(size)
        # The corner farthest out, factor by factor in the order of `_matrix`.
        reached = np.abs(_shears([(s, s) for s in self.shear])) @ (
            extent / (1 - np.array(self.scale))
        )
        for axis, degrees in enumerate(self.rotation):
            reached = _turned(reached, axis, math.radians(degrees))
        depth, height, width = (math.ceil(beyond + SLACK) for beyond in reached - extent)
        needed = (0 if self.in_sections else depth, height, width)
        return needed if self.reach is None else tuple(map(min, needed, self.reach))

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        matrix = self._matrix(rng)
        to = middle(sample.size) - matrix @ middle(size)
        return warp(sample, size, matrix, to, in_sections=self.in_sections)

    def _matrix(self, rng: np.random.Generator) -> np.ndarray:
        """From a position in the result to that in the sample, both relative to the centres."""
        matrix = np.diag(1 / (1 + rng.uniform(np.negative(self.scale), self.scale)))
        matrix = _shears([tuple(rng.uniform(-s, s, 2)) for s in self.shear]) @ matrix
        for axis, degrees in enumerate(self.rotation):
            matrix = _rotation(axis, math.radians(rng.uniform(-degrees, degrees))) @ matrix
        return matrix


class Rescale(RandomTransform):
    """With probability `p`, all sections are magnified about their centre by one factor.

    Image and labels change together.

    Args:
        factor: drawn from [lo, hi], its logarithm uniformly, so that [1/f, f] shrinks and enlarges
            equally often; factors below 1 need a margin.
    """

    factor: Annotated[tuple[float, float], interval(0.1)] = (0.667, 1.5)
    in_sections = True

    def margin(self, size: Size) -> Size:
        beyond = max(1 / self.factor[0] - 1, 0)
        height, width = (math.ceil((n - 1) / 2 * beyond + SLACK) for n in size[1:])
        return 0, height, width

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        step = 1 / draw_power(self.factor, rng)
        to = middle(sample.size) - step * middle(size)
        return warp(sample, size, step * np.eye(3), to, in_sections=True)


class Elastic(RandomTransform):
    """With probability `p`, a smooth random displacement, its largest drawn from an interval.

    Control points within sections move independently, and cubic B-splines join them. (The control
    points are those of gunpowder.)

    Args:
        displacement: pixels; the field is scaled so that its largest displacement along each axis
            within sections is one number drawn from [lo, hi].
        spacing: pixels between control points.
        section_spacing: sections between control points; None: the field is the same in all
            sections.
        displacement_across: as `displacement`, across sections and in sections; None: there is
            none.
    """

    displacement: NotNegative = (2.0, 8.0)
    spacing: Annotated[float, within(1)] = 40.0
    section_spacing: Annotated[float, within(1)] | None = None
    displacement_across: NotNegative | None = None

    @property
    def in_sections(self) -> bool:
        return self.displacement_across is None

    def margin(self, size: Size) -> Size:
        aside = math.ceil(self.displacement[1] + SLACK)
        if self.displacement_across is None:
            return 0, aside, aside
        return math.ceil(self.displacement_across[1] + SLACK), aside, aside

    def change(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        around = middle(sample.size) - middle(size)
        field = self._field(size, rng)
        return warp(sample, size, np.eye(3), around, field=field, in_sections=self.in_sections)

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
        # The matrices are so small that threads of a linear algebra library would be slower.
        joined = np.einsum("fz,zcyx->fcyx", sections, points)
        field = spline_field(rows, joined, columns)
        for axis, limit in enumerate(limits):
            part = field[:, axis]
            largest = max(float(np.abs(part).max()), 1e-6)
            part *= np.float32(rng.uniform(*limit) / largest)
        return field


def warp(
    sample: Sample,
    size: Size,
    matrix: np.ndarray,
    to: np.ndarray,
    *,
    in_sections: bool,
    field: np.ndarray | None = None,
) -> Sample:
    """A sample of `size` whose voxel v shows what lies at `matrix` v + `to` + field in `sample`.

    `matrix` (3, 3) and `to` (3,) are float64, the field (1 or Z, 3, Y, X) is float32, in voxels.
    With `in_sections` only what they say of rows and columns counts, and the field is of these two
    axes. What lies outside `sample` is 0 in the image and unlabelled.
    """
    if field is None:
        field = np.zeros((0, 2 if in_sections else 3, 1, 1), np.float32)
    whole, arrays = np.column_stack([matrix, to]), (sample.image, sample.labels)
    if not in_sections:
        return sample.with_arrays(*warp_volume(*arrays, matrix=whole, field=field, size=size))
    matrices = whole[np.newaxis, 1:, 1:].copy()
    first = (sample.size[0] - size[0]) // 2
    return sample.with_arrays(
        *warp_sections(*arrays, matrices=matrices, field=field, first=first, size=size)
    )


def middle(size: Size) -> np.ndarray:
    """The position (3,) of the centre of an array, in voxels."""
    return (np.array(size) - 1) / 2


def _spline(size: int, spacing: float) -> np.ndarray:
    """(size, control points): the weight of each control point for a voxel; rows sum to 1."""
    at = np.arange(size) / spacing
    first = np.floor(at).astype(int)
    t = at - first
    weights = np.zeros((size, first[-1] + 4), np.float32)
    cubic = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    for step, part in enumerate(cubic):
        weights[np.arange(size), first + step] = part / 6
    return weights


def _other_axes(axis: int) -> tuple[int, int]:
    return (1 if axis == 0 else 0), (1 if axis == 2 else 2)


def _rotation(axis: int, angle: float) -> np.ndarray:
    first, second = _other_axes(axis)
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
    """The extent of a box of half sizes `extent` when it is rotated by up to `most`."""
    first, second = _other_axes(axis)
    reached = extent.copy()
    for one, other in ((first, second), (second, first)):
        # A corner extends farthest when it is on the axis.
        angle = min(most, math.atan2(extent[other], extent[one]))
        reached[one] = extent[one] * math.cos(angle) + extent[other] * math.sin(angle)
    return reached
