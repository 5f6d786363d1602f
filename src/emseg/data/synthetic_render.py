"""Labels and grey values of a synthetic volume, drawn from packed neurites.

A voxel compares the balls known at the corners of its lattice cell. The difference of its weighted
distances to the nearest two neurites gives the distance to the membrane between them and how that
membrane stands to the section. Axis 0 is the section axis.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from emseg.data.synthetic_lattice import Lattice, make_lattice
from emseg.data.synthetic_neurites import Neurites, grow_neurites
from emseg.data.synthetic_texture import (
    CYTOPLASM,
    EXTRACELLULAR,
    GRAIN,
    GRAIN_SHAPE,
    MEMBRANE,
    MITOCHONDRION_EDGE,
    Tissue,
    gaussian_noise,
    make_tissue,
    mitochondrion,
    mix,
    reticulum,
    vesicle,
)

MARGIN = 1.5  # tissue grown around the volume, in diameters
POINT_SPREAD_NM = 2.0  # half width of the microscope's blur in the section


@njit(cache=True, nogil=True, inline="always")
def _covered(offset, width, half):
    """Part of the interval offset +- half that lies within +- width."""
    return max(min(offset + half, width) - max(offset - half, -width), np.float32(0)) / (2 * half)


@dataclass(frozen=True)
class Scene:
    """All that is drawn; section i shows the tissue from `shift[i]` (section, row, column) on."""

    neurites: Neurites
    lattice: Lattice
    tissue: Tissue
    voxel_size: np.ndarray  # nm
    shift: np.ndarray  # (sections, 2) int64, voxels of the section plane


def make_scene(
    shape: tuple[int, int, int],
    *,
    voxel_size: np.ndarray,
    shift: np.ndarray,
    diameter_nm: float,
    rng: np.random.Generator,
) -> Scene:
    margin = MARGIN * diameter_nm
    high = np.array(shape) * voxel_size + margin
    neurites = grow_neurites(np.full(3, -margin), high, diameter_nm=diameter_nm, rng=rng)
    lattice = make_lattice(
        neurites,
        shape=shape,
        voxel_size=voxel_size,
        pad=tuple(np.abs(shift).max(axis=0).tolist()),
        diameter_nm=diameter_nm,
        rng=rng,
    )
    tissue = make_tissue(int(neurites.tree.max()), voxel_size=voxel_size, rng=rng)
    return Scene(neurites, lattice, tissue, voxel_size, shift)


def render(
    scene: Scene,
    shape: tuple[int, int, int],
    *,
    membrane_nm: float,
    extracellular_nm: float,
    noise: float,
    organelles: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Raw (uint8) and labels (uint32: tree numbers, 0 in the extracellular space)."""
    raw = np.empty(shape, np.uint8)
    labels = np.empty(shape, np.uint32)
    neurites, lattice, tissue = scene.neurites, scene.lattice, scene.tissue
    _render(
        raw, labels, lattice.first, lattice.second, lattice.position, lattice.fields, lattice.step,
        lattice.start, neurites.centre, neurites.radius, neurites.tree, neurites.parent,
        neurites.mitochondrion, scene.shift, scene.voxel_size.astype(np.float32), tissue.tone,
        tissue.vesicles, tissue.grain, np.uint64(tissue.key), np.float32(membrane_nm / 2),
        np.float32(extracellular_nm / 2), np.float32(noise), np.float32(organelles),
    )  # fmt: skip
    return raw, labels


@njit(cache=True, nogil=True)
def _render(
    raw, labels, first, second, position, fields, step, start, centre, radius, tree, parent, mito,
    shift, voxel, tone, vesicles, grain, key, membrane, gap, noise, organelles,
):  # fmt: skip
    known = np.empty(16, np.int64)
    ball = np.empty((4, 16), np.float32)
    apart = np.empty(16, np.float32)
    owner = np.empty(16, np.int64)
    lump = np.empty(48, np.int64)
    left = np.empty(5, np.float32)
    right = np.empty(5, np.float32)
    half_px = np.float32(0.5) * voxel
    widest = math.sqrt(half_px[0] ** 2 + half_px[1] ** 2 + half_px[2] ** 2) + POINT_SPREAD_NM
    far = np.float32(2) * (gap + membrane + np.float32(widest))
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
                                    ball[0, count] = centre[one, 0]
                                    ball[1, count] = centre[one, 1]
                                    ball[2, count] = centre[one, 2]
                                    ball[3, count] = radius[one]
                                    owner[count] = tree[one]
                                    count += 1
                lumps = 0
                if organelles > 0:
                    # Mitochondria are balls too; those next along the neurite round them off.
                    for k in range(count):
                        for turn in range(3):
                            one = known[k] + turn - 1
                            if turn == 0:
                                one = parent[known[k]]
                            elif one >= mito.size or (turn == 2 and parent[one] != known[k]):
                                one = -1
                            fresh = one >= 0 and mito[one] > 0
                            if not fresh:
                                continue
                            for j in range(lumps):
                                if lump[j] == one:
                                    fresh = False
                            if fresh:
                                lump[lumps] = one
                                lumps += 1
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
                        row_key = mix(key, z, y, -1)
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
                            at_z = left[0] + fx * (right[0] - left[0])
                            at_y = left[1] + fx * (right[1] - left[1])
                            at_x = left[2] + fx * (right[2] - left[2])
                            sheet = left[3] + fx * (right[3] - left[3])
                            fade = left[4] + fx * (right[4] - left[4])
                            d1 = np.float32(np.inf)
                            d2 = np.float32(np.inf)
                            i1 = -1
                            i2 = -1
                            for k in range(count):  # a loop of its own, so that it is vectorised
                                dz = at_z - ball[0, k]
                                dy = at_y - ball[1, k]
                                dx = at_x - ball[2, k]
                                apart[k] = math.sqrt(dz * dz + dy * dy + dx * dx) - ball[3, k]
                            for k in range(count):
                                d = apart[k]
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
                                z & (GRAIN_SHAPE[0] - 1),
                                ty & (GRAIN_SHAPE[1] - 1),
                                tx & (GRAIN_SHAPE[2] - 1),
                            ]
                            v = CYTOPLASM + tone[name] + GRAIN * speck
                            if organelles > 0:
                                taken = vesicles[name] * organelles
                                v += organelles * vesicle(at_z, at_y, at_x, taken, key)
                                v += organelles * reticulum(sheet, fade)
                            if lumps > 0:
                                depth = np.float32(-np.inf)
                                for k in range(lumps):
                                    one = lump[k]
                                    if tree[one] == name:
                                        dz = at_z - centre[one, 0]
                                        dy = at_y - centre[one, 1]
                                        dx = at_x - centre[one, 2]
                                        d = math.sqrt(dz * dz + dy * dy + dx * dx)
                                        depth = max(depth, mito[one] - d)
                                if depth > MITOCHONDRION_EDGE:
                                    inside = mitochondrion(depth, at_z, at_y, at_x, sheet, speck)
                                    v += organelles * (inside - v)
                            if d2 - d1 < far:
                                # |grad (d2 - d1)| turns the difference into a distance, and its
                                # direction tells how the membrane stands to the section.
                                r1 = d1 + ball[3, i1] + np.float32(1e-3)
                                r2 = d2 + ball[3, i2] + np.float32(1e-3)
                                nz = (at_z - ball[0, i2]) / r2 - (at_z - ball[0, i1]) / r1
                                ny = (at_y - ball[1, i2]) / r2 - (at_y - ball[1, i1]) / r1
                                nx = (at_x - ball[2, i2]) / r2 - (at_x - ball[2, i1]) / r1
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
                                strength = np.float32(0.8) + np.float32(0.16) * fade
                                strength = min(max(strength, np.float32(0.3)), np.float32(1))
                                v += (MEMBRANE - v) * dark * strength
                            if noise > 0:
                                v += noise * gaussian_noise(row_key, x)
                            raw[z, y, x] = min(max(v, np.float32(0)), np.float32(255))
                            labels[z, y, x] = name
