"""Labels and intensities of a synthetic volume, drawn from packed neurites.

Space is shared out by the additively weighted distance `|x - centre| - radius` to the balls of the
neurites (an Apollonius diagram), in coordinates bent by a smooth displacement. A lattice a few
voxels wide knows the two nearest neurites at its nodes; a voxel compares only the balls known at
the corners of its cell. Axis 0 is the section axis.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from emseg.data.synthetic_neurites import Neurites
from emseg.data.synthetic_texture import (
    EXTRACELLULAR,
    GRAIN_SHAPE,
    MEMBRANE,
    Tissue,
    cytoplasm,
    gaussian_noise,
    mitochondrion,
)

CELLS_PER_DIAMETER = 6.5  # width of the lattice
BEND_WAVE = 0.9  # pitch of the displacement's control points, in diameters
BEND = 0.16  # standard deviation of their displacement, in diameters
REACH = 0.5  # how far a ball's influence goes beyond its surface at first, in diameters
POINT_SPREAD_NM = 2.0  # half width of the microscope's blur in the section


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
    axes: list[np.ndarray], *, extent: np.ndarray, pitch: float, count: int, rng: np.random.Generator
) -> np.ndarray:
    """`count` smooth random fields of unit variance at the grid of `axes` (nm): (A, B, C, count)."""
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
    places = unbend(lattice, neurites.centre, voxel_size=voxel_size)
    at = (places / voxel_size - start) / step
    reach = REACH * diameter_nm
    nearest = np.full(nodes, np.inf, np.float32)
    runner_up = np.full(nodes, np.inf, np.float32)
    while True:
        _claim(
            at, neurites.centre, neurites.radius, neurites.tree, position, scale, reach,
            lattice.first, nearest, lattice.second, runner_up,
        )  # fmt: skip
        if (lattice.first >= 0).all():
            return lattice
        reach *= 2


def _empty(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.full(nodes, -1, np.int32), np.full(nodes, -1, np.int32)


def unbend(lattice: Lattice, points: np.ndarray, *, voxel_size: np.ndarray) -> np.ndarray:
    """Tissue coordinates (nm, voxel 0 at 0) whose bent position is `points` (N, 3)."""
    start = lattice.start * voxel_size
    return _invert(points, lattice.position, start, lattice.step * voxel_size)


@njit(cache=True, nogil=True)
def _invert(points, position, start, scale):
    places = points.astype(np.float64)
    low = np.empty(3, np.int64)
    part = np.empty(3)
    for n in range(points.shape[0]):
        for _ in range(12):
            for axis in range(3):
                last = position.shape[axis] - 1
                at = min(max((places[n, axis] - start[axis]) / scale[axis], 0.0), last - 1e-6)
                low[axis] = int(at)
                part[axis] = at - low[axis]
            for axis in range(3):
                bend = 0.0
                for corner in range(8):
                    weight = 1.0
                    index = low.copy()
                    for a in range(3):
                        if (corner >> a) & 1:
                            weight *= part[a]
                            index[a] += 1
                        else:
                            weight *= 1.0 - part[a]
                    node = position[index[0], index[1], index[2], axis]
                    bend += weight * (node - start[axis] - scale[axis] * index[axis])
                places[n, axis] = points[n, axis] - bend
    return places


@njit(cache=True, nogil=True)
def _claim(
    at, centre, radius, tree, position, scale, reach, first, nearest, second, runner_up
):  # fmt: skip
    """Each ball offers itself to the nodes around it; a node keeps the two nearest trees."""
    for ball in range(radius.size):
        limit = radius[ball] + np.float32(reach)
        box = 1.15 * limit
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


@njit(cache=True, nogil=True, inline="always")
def _covered(offset, width, half):
    """Part of the interval offset +- half that lies within +- width."""
    return max(min(offset + half, width) - max(offset - half, -width), np.float32(0)) / (2 * half)


def render(
    neurites: Neurites,
    lattice: Lattice,
    tissue: Tissue,
    *,
    shape: tuple[int, int, int],
    voxel_size: np.ndarray,
    shift: np.ndarray,
    membrane_nm: float,
    extracellular_nm: float,
    noise: float,
    organelles: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Raw (uint8) and labels (uint32: tree numbers); section i shows the tissue moved by shift[i].

    `shift` is (sections, 2) int64, in voxels of the section plane.
    """
    raw = np.empty(shape, np.uint8)
    labels = np.empty(shape, np.uint32)
    _render(
        raw, labels, lattice.first, lattice.second, lattice.position, lattice.fields, lattice.step,
        lattice.start, neurites.centre, neurites.radius, neurites.tree, neurites.mitochondrion,
        shift, voxel_size.astype(np.float32), tissue.tone, tissue.vesicles, tissue.grain,
        np.uint64(tissue.key), np.float32(membrane_nm), np.float32(extracellular_nm / 2),
        np.float32(noise), np.float32(organelles),
    )  # fmt: skip
    return raw, labels


@njit(cache=True, nogil=True)
def _render(
    raw, labels, first, second, position, fields, step, start, centre, radius, tree, mito,
    shift, voxel, tone, vesicles, grain, key, membrane, gap, noise, organelles,
):  # fmt: skip
    known = np.empty(16, np.int64)
    ball = np.empty((16, 4), np.float32)
    owner = np.empty(16, np.int64)
    value = np.empty(5, np.float32)
    left = np.empty(5, np.float32)
    right = np.empty(5, np.float32)
    half_px = np.float32(0.5) * voxel
    far = np.float32(2) * (gap + membrane + voxel[0])
    for gz in range(first.shape[0] - 1):
        layers = 1 if step[0] == 1 else 2
        for gy in range(first.shape[1] - 1):
            for gx in range(first.shape[2] - 1):
                count = 0
                for a in range(layers):
                    for b in range(2):
                        for c in range(2):
                            for rank in range(2):
                                if rank == 0:
                                    one = first[gz + a, gy + b, gx + c]
                                else:
                                    one = second[gz + a, gy + b, gx + c]
                                fresh = one >= 0
                                for k in range(count):
                                    if known[k] == one:
                                        fresh = False
                                        break
                                if fresh:
                                    known[count] = one
                                    ball[count, 0] = centre[one, 0]
                                    ball[count, 1] = centre[one, 1]
                                    ball[count, 2] = centre[one, 2]
                                    ball[count, 3] = radius[one]
                                    owner[count] = tree[one]
                                    count += 1
                for iz in range(step[0]):
                    z = gz * step[0] + iz
                    if z >= raw.shape[0]:
                        break
                    fz = np.float32(iz) / np.float32(step[0])
                    for iy in range(step[1]):
                        ty = start[1] + gy * step[1] + iy
                        y = ty - shift[z, 0]
                        if y < 0 or y >= raw.shape[1]:
                            continue
                        fy = np.float32(iy) / np.float32(step[1])
                        for k in range(5):
                            for side in range(2):
                                if k < 3:
                                    v00 = position[gz, gy, gx + side, k]
                                    v01 = position[gz, gy + 1, gx + side, k]
                                    v10 = position[gz + layers - 1, gy, gx + side, k]
                                    v11 = position[gz + layers - 1, gy + 1, gx + side, k]
                                else:
                                    v00 = fields[gz, gy, gx + side, k - 3]
                                    v01 = fields[gz, gy + 1, gx + side, k - 3]
                                    v10 = fields[gz + layers - 1, gy, gx + side, k - 3]
                                    v11 = fields[gz + layers - 1, gy + 1, gx + side, k - 3]
                                low = v00 + fy * (v01 - v00)
                                high = v10 + fy * (v11 - v10)
                                if side == 0:
                                    left[k] = low + fz * (high - low)
                                else:
                                    right[k] = low + fz * (high - low)
                        for ix in range(step[2]):
                            tx = start[2] + gx * step[2] + ix
                            x = tx - shift[z, 1]
                            if x < 0 or x >= raw.shape[2]:
                                continue
                            fx = np.float32(ix) / np.float32(step[2])
                            for k in range(5):
                                value[k] = left[k] + fx * (right[k] - left[k])
                            d1 = np.float32(np.inf)
                            d2 = np.float32(np.inf)
                            i1 = -1
                            i2 = -1
                            for k in range(count):
                                dz = value[0] - ball[k, 0]
                                dy = value[1] - ball[k, 1]
                                dx = value[2] - ball[k, 2]
                                d = math.sqrt(dz * dz + dy * dy + dx * dx) - ball[k, 3]
                                if d < d1:
                                    if i1 >= 0 and owner[k] != owner[i1]:
                                        d2 = d1
                                        i2 = i1
                                    d1 = d
                                    i1 = k
                                elif d < d2 and owner[k] != owner[i1]:
                                    d2 = d
                                    i2 = k
                            name = owner[i1]
                            speck = grain[
                                z % grain.shape[0], ty % grain.shape[1], tx % grain.shape[2]
                            ]
                            v = cytoplasm(
                                value, speck, tone[name], vesicles[name], organelles, key
                            )
                            if mito[known[i1]] > 0 and organelles > 0:
                                depth = mito[known[i1]] - (d1 + ball[i1, 3])
                                v = mitochondrion(v, depth, value, speck, organelles)
                            if d2 - d1 < far:
                                # |grad (d2 - d1)| turns the difference into a distance, and its
                                # direction tells how the membrane stands to the section.
                                r1 = d1 + ball[i1, 3] + np.float32(1e-3)
                                r2 = d2 + ball[i2, 3] + np.float32(1e-3)
                                nz = (value[0] - ball[i2, 0]) / r2 - (value[0] - ball[i1, 0]) / r1
                                ny = (value[1] - ball[i2, 1]) / r2 - (value[1] - ball[i1, 1]) / r1
                                nx = (value[2] - ball[i2, 2]) / r2 - (value[2] - ball[i1, 2]) / r1
                                slope = math.sqrt(nz * nz + ny * ny + nx * nx) + np.float32(1e-3)
                                away = (d2 - d1) / slope
                                spread = (
                                    abs(nz) * half_px[0] + abs(ny) * half_px[1]
                                    + abs(nx) * half_px[2]
                                ) / slope + np.float32(POINT_SPREAD_NM)  # fmt: skip
                                outside = np.float32(0)
                                if gap > 0:
                                    outside = _covered(away, gap, spread)
                                    v += (EXTRACELLULAR - v) * outside
                                    if away < gap:
                                        name = 0
                                dark = _covered(away, gap + membrane, spread) - outside
                                strength = np.float32(0.8) + np.float32(0.16) * value[4]
                                strength = min(max(strength, np.float32(0.3)), np.float32(1))
                                v += (MEMBRANE - v) * dark * strength
                            if noise > 0:
                                v += noise * gaussian_noise(key, z, y, x)
                            raw[z, y, x] = min(max(v, np.float32(0)), np.float32(255))
                            labels[z, y, x] = name


assert len(GRAIN_SHAPE) == 3
