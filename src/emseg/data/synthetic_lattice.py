"""The lattice that shares space out among packed neurites.

Space goes to the nearest ball by the additively weighted distance `|x - centre| - radius` (an
Apollonius diagram), in coordinates bent by a smooth displacement, so that tubes become irregular.
A lattice a few voxels wide knows the two nearest neurites at its nodes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.spatial import cKDTree

from emseg.data.synthetic_neurites import Neurites

CELLS_PER_DIAMETER = 6.5  # width of the lattice
BEND_WAVE = 0.9  # pitch of the displacement's control points, in diameters
BEND = 0.16  # standard deviation of their displacement, in diameters
REACH = 0.3  # how far a ball's influence goes beyond its surface, in diameters


@dataclass(frozen=True)
class Lattice:
    """Nodes every `step` voxels: bent position (nm), texture fields, two nearest neurites."""

    step: np.ndarray  # (3,) int64, voxels
    start: np.ndarray  # (3,) int64: voxel index of node 0
    position: np.ndarray  # (A, B, C, 3) float32, nm
    fields: np.ndarray  # (A, B, C, 2) float32, unit variance
    first: np.ndarray  # (A, B, C) int32: nearest ball
    second: np.ndarray  # (A, B, C) int32: nearest ball of any other tree, or -1


def _bspline(length: int, offset_nm: np.ndarray, pitch: float) -> np.ndarray:
    """Weights (positions, control points) of a uniform cubic B-spline."""
    knot = offset_nm / pitch
    distance = np.abs(knot[:, None] - np.arange(-2, length + 2)[None, :])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far)


def _smooth_fields(
    axes: list[np.ndarray],
    *,
    extent: np.ndarray,
    pitch: float,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Smooth random fields of unit variance at the grid of `axes` (nm): (A, B, C, count)."""
    lengths = [math.ceil(length / pitch) + 1 for length in extent]
    field = rng.standard_normal((*(length + 4 for length in lengths), count))
    for length, positions in zip(lengths, axes, strict=True):
        # Contracts axis 0 and appends the new one, so that three rounds restore the order.
        weights = _bspline(length, positions, pitch)
        field = np.tensordot(weights, field, axes=(1, 0))
        field = np.moveaxis(field, 0, 2)
    return field * 2.7  # a cubic B-spline keeps about 0.37 of white noise in three dimensions


def make_lattice(
    neurites: Neurites,
    *,
    shape: tuple[int, int, int],
    voxel_size: np.ndarray,
    pad: tuple[int, int],
    diameter_nm: float,
    rng: np.random.Generator,
) -> Lattice:
    """The lattice over `shape` and `pad` voxels around it in the section plane."""
    pitch = diameter_nm / CELLS_PER_DIAMETER
    step = np.maximum(1, np.rint(pitch / voxel_size)).astype(np.int64)
    margin = np.array([0, *(-(-p // s) for p, s in zip(pad, step[1:], strict=True))])
    nodes = -(-np.array(shape) // step) + 1 + 2 * margin
    start = -margin * step
    axes = [(start[a] + step[a] * np.arange(nodes[a])) * voxel_size[a] for a in range(3)]
    extent = np.array(shape) * voxel_size
    wave = BEND_WAVE * diameter_nm
    bend = _smooth_fields(axes, extent=extent, pitch=wave, count=3, rng=rng)
    fields = _smooth_fields(axes, extent=extent, pitch=0.7 * wave, count=2, rng=rng)
    position = (np.stack(np.meshgrid(*axes, indexing="ij"), -1) + BEND * diameter_nm * bend).astype(
        np.float32
    )
    scale = step * voxel_size
    lattice = Lattice(step, start, position, fields.astype(np.float32), *_empty(nodes))
    # What stands inside `shape` must not depend on `pad`.
    places = unbend(lattice, neurites.centre, voxel_size=voxel_size, margin=margin)
    at = (places / voxel_size - start) / step
    _claim(
        at, neurites.centre, neurites.radius, neurites.tree, position, scale,
        REACH * diameter_nm, lattice.first, lattice.second,
    )  # fmt: skip
    lone = lattice.first < 0
    lattice.first[lone] = _nearest_ball(neurites, position[lone])
    return lattice


def _nearest_ball(neurites: Neurites, points: np.ndarray) -> np.ndarray:
    """Rows of the nearest balls to `points` (N, 3), for the few nodes beyond every ball's reach."""
    asked = min(16, len(neurites.radius))
    distance, ball = cKDTree(neurites.centre).query(points, k=list(range(1, asked + 1)))
    return np.take_along_axis(
        ball, (distance - neurites.radius[ball]).argmin(axis=1, keepdims=True), axis=1
    )[:, 0]


def _empty(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.full(nodes, -1, np.int32), np.full(nodes, -1, np.int32)


def unbend(
    lattice: Lattice, points: np.ndarray, *, voxel_size: np.ndarray, margin: np.ndarray
) -> np.ndarray:
    """Tissue coordinates (nm, voxel 0 at 0) whose bent position is `points` (N, 3).

    Beyond the lattice, less `margin` nodes on each side, the displacement is that of its border.
    """
    scale = lattice.step * voxel_size
    return _invert(points, lattice.position, lattice.start * voxel_size, scale, margin)


@njit(cache=True, nogil=True)
def _invert(points, position, start, scale, margin):
    places = points.astype(np.float64)
    bend = np.empty(3)
    last = np.empty(3)
    for axis in range(3):
        last[axis] = position.shape[axis] - margin[axis] - 1.001
    for n in range(points.shape[0]):
        for _ in range(8):
            z = min(max((places[n, 0] - start[0]) / scale[0], margin[0]), last[0])
            y = min(max((places[n, 1] - start[1]) / scale[1], margin[1]), last[1])
            x = min(max((places[n, 2] - start[2]) / scale[2], margin[2]), last[2])
            iz, iy, ix = int(z), int(y), int(x)
            bend[0] = -start[0] - scale[0] * z
            bend[1] = -start[1] - scale[1] * y
            bend[2] = -start[2] - scale[2] * x
            for a in range(2):
                weight_z = z - iz if a else 1 - z + iz
                for b in range(2):
                    weight_y = weight_z * (y - iy if b else 1 - y + iy)
                    for c in range(2):
                        weight = weight_y * (x - ix if c else 1 - x + ix)
                        for axis in range(3):
                            bend[axis] += weight * position[iz + a, iy + b, ix + c, axis]
            for axis in range(3):
                places[n, axis] = points[n, axis] - bend[axis]
    return places


@njit(cache=True, nogil=True)
def _claim(at, centre, radius, tree, position, scale, reach, first, second):
    """Each ball offers itself to the nodes around it; a node keeps the two nearest trees."""
    nearest = np.full(first.shape, np.inf, np.float32)
    runner_up = np.full(first.shape, np.inf, np.float32)
    for ball in range(radius.size):
        limit = radius[ball] + np.float32(reach)
        box = 1.1 * limit
        low = np.empty(3, np.int64)
        high = np.empty(3, np.int64)
        for axis in range(3):
            half = box / scale[axis]
            low[axis] = max(0, math.ceil(at[ball, axis] - half))
            high[axis] = min(first.shape[axis], math.floor(at[ball, axis] + half) + 1)
        own = tree[ball]
        for z in range(low[0], high[0]):
            for y in range(low[1], high[1]):
                for x in range(low[2], high[2]):
                    dz = position[z, y, x, 0] - centre[ball, 0]
                    dy = position[z, y, x, 1] - centre[ball, 1]
                    dx = position[z, y, x, 2] - centre[ball, 2]
                    squared = dz * dz + dy * dy + dx * dx
                    bound = min(runner_up[z, y, x] + radius[ball], limit)
                    if bound <= 0 or squared >= bound * bound:
                        continue
                    distance = math.sqrt(squared) - radius[ball]
                    if distance < nearest[z, y, x]:
                        holder = first[z, y, x]
                        if holder >= 0 and tree[holder] != own:
                            second[z, y, x] = holder
                            runner_up[z, y, x] = nearest[z, y, x]
                        first[z, y, x] = ball
                        nearest[z, y, x] = distance
                    elif tree[first[z, y, x]] != own:
                        second[z, y, x] = ball
                        runner_up[z, y, x] = distance
