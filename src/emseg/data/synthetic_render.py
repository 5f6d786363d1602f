"""The kernel that draws labels and grey values of a synthetic volume.

A voxel compares the balls known at the corners of its lattice cell. The difference of its weighted
distances to the nearest two neurites gives the distance to the membrane between them and how that
membrane stands to the section. Axis 0 is the section axis. All that the kernel inlines stands in
this file, because numba's cache looks at no other.
"""

import math

import numpy as np
from numba import njit

from emseg.data.synthetic_texture import GRAIN_SHAPE

CYTOPLASM = np.float32(168)
MEMBRANE = np.float32(48)
EXTRACELLULAR = np.float32(150)
MITOCHONDRION = np.float32(98)
MITOCHONDRION_EDGE = np.float32(-5)  # nm: how far its dark rim reaches out
GRAIN = np.float32(13)
VESICLES_PER_NM = np.float32(1 / 52)  # of the lattice that vesicles sit on
POINT_SPREAD_NM = 2.0  # half width of the microscope's blur in the section


@njit(cache=True, nogil=True, inline="always")
def _scatter(mixed):
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def mix(key, a, b, c):
    """A hash of three integers: 64 bits that look random."""
    return _scatter(
        key
        ^ (np.uint64(a) * np.uint64(0x9E3779B97F4A7C15))
        ^ (np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F))
        ^ (np.uint64(c) * np.uint64(0x165667B19E3779F9))
    )


@njit(cache=True, nogil=True, inline="always")
def gaussian_noise(row_key, x):
    """Nearly normal noise of unit variance: four uniform numbers out of one hash."""
    mixed = _scatter(row_key + np.uint64(x) * np.uint64(0x9E3779B97F4A7C15))
    low = np.uint64(0xFFFF)
    total = (mixed & low) + ((mixed >> np.uint64(16)) & low) + ((mixed >> np.uint64(32)) & low)
    total += mixed >> np.uint64(48)
    return (np.float32(np.int64(total)) - np.float32(131070)) * np.float32(2.6429e-5)


@njit(cache=True, nogil=True, inline="always")
def _byte(mixed, place):
    part = (mixed >> np.uint64(8 * place)) & np.uint64(255)
    return np.float32(np.int64(part)) * np.float32(1 / 255)


@njit(cache=True, nogil=True, inline="always")
def vesicle(z, y, x, taken, key):
    """Grey value that a vesicle adds at a place (nm); `taken` of the lattice's places hold one."""
    a = math.floor(z * VESICLES_PER_NM)
    b = math.floor(y * VESICLES_PER_NM)
    c = math.floor(x * VESICLES_PER_NM)
    mixed = mix(key, np.int64(a), np.int64(b), np.int64(c))
    if _byte(mixed, 0) >= taken:
        return np.float32(0)
    pitch = np.float32(1) / VESICLES_PER_NM
    radius = np.float32(13) + np.float32(7) * _byte(mixed, 1)
    edge = radius + np.float32(3)
    play = pitch - np.float32(2) * edge
    dz = z - np.float32(a) * pitch - edge - play * _byte(mixed, 2)
    dy = y - np.float32(b) * pitch - edge - play * _byte(mixed, 3)
    dx = x - np.float32(c) * pitch - edge - play * _byte(mixed, 4)
    off = math.sqrt(dz * dz + dy * dy + dx * dx) - radius
    if off < np.float32(-6):
        return np.float32(9)
    return np.float32(-62) * max(np.float32(0), np.float32(1) - abs(off) * np.float32(1 / 7))


@njit(cache=True, nogil=True, inline="always")
def reticulum(sheet, fade):
    """Grey value that endoplasmic reticulum adds: dark sheets that bound nothing."""
    off = abs(sheet - np.float32(0.5))
    if off > np.float32(0.13) or fade < np.float32(-0.6):
        return np.float32(0)
    return np.float32(-65) * (np.float32(1) - off * np.float32(1 / 0.13))


@njit(cache=True, nogil=True, inline="always")
def mitochondrion(depth, z, y, x, sheet, speck):
    """Grey value `depth` nm below a mitochondrion's surface: dark rim, cristae, dense matrix."""
    if depth < np.float32(7):
        return MITOCHONDRION - np.float32(38)
    fold = math.sin(
        np.float32(0.17) * (y + np.float32(0.6) * z)
        + np.float32(0.06) * x
        + np.float32(1.5) * sheet
    )
    return MITOCHONDRION + np.float32(16) * fold + np.float32(12) * speck


@njit(cache=True, nogil=True, inline="always")
def _covered(offset, width, half):
    """Part of the interval offset +- half that lies within +- width."""
    return max(min(offset + half, width) - max(offset - half, -width), np.float32(0)) / (2 * half)


@njit(cache=True, nogil=True)
def draw(
    raw, labels, first, second, position, fields, step, start, centre, radius, tree, parent, mito,
    shift, voxel, tone, vesicles, grain, key, membrane, gap, noise, organelles,
):  # fmt: skip
    """Fill `raw` (uint8) and `labels` (uint32), one value a voxel of the scene."""
    known = np.empty(16, np.int64)
    ball = np.empty((4, 16), np.float32)
    apart = np.empty(16, np.float32)
    owner = np.empty(16, np.int64)
    lump = np.empty(48, np.int64)
    lump_owner = np.empty(48, np.int64)
    lump_ball = np.empty((4, 48), np.float32)
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
                                lump_owner[lumps] = tree[one]
                                lump_ball[0, lumps] = centre[one, 0]
                                lump_ball[1, lumps] = centre[one, 1]
                                lump_ball[2, lumps] = centre[one, 2]
                                lump_ball[3, lumps] = mito[one]
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
                                if taken > 0:
                                    v += organelles * vesicle(at_z, at_y, at_x, taken, key)
                                v += organelles * reticulum(sheet, fade)
                            if lumps > 0:
                                depth = MITOCHONDRION_EDGE
                                for k in range(lumps):
                                    if lump_owner[k] != name:
                                        continue
                                    dz = at_z - lump_ball[0, k]
                                    dy = at_y - lump_ball[1, k]
                                    dx = at_x - lump_ball[2, k]
                                    squared = dz * dz + dy * dy + dx * dx
                                    reach = lump_ball[3, k] - depth
                                    if reach > 0 and squared < reach * reach:
                                        depth = lump_ball[3, k] - math.sqrt(squared)
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
