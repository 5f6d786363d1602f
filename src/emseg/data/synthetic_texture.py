"""What the inside of a synthetic neurite looks like: grey values of the electron microscope."""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

CYTOPLASM = np.float32(168)
MEMBRANE = np.float32(48)
EXTRACELLULAR = np.float32(150)
MITOCHONDRION = np.float32(98)
MITOCHONDRION_EDGE = np.float32(-5)  # nm: how far its dark rim reaches out
GRAIN = np.float32(13)
GRAIN_NM = 6.5  # its size
VESICLES_PER_NM = np.float32(1 / 52)  # of the lattice that vesicles sit on
GRAIN_SHAPE = (16, 128, 128)  # powers of two: it repeats after this many voxels


@dataclass(frozen=True)
class Tissue:
    """Texture of one volume; `tone` and `vesicles` have one entry a tree number."""

    tone: np.ndarray  # float32: brightness of the cytoplasm against the mean
    vesicles: np.ndarray  # float32: how likely a place for a vesicle is taken
    grain: np.ndarray  # GRAIN_SHAPE float32, unit variance: proteins, ribosomes, stain
    key: int  # of the hash behind vesicles and noise


def make_tissue(trees: int, *, voxel_size: np.ndarray, rng: np.random.Generator) -> Tissue:
    tone = rng.normal(0, 9, trees + 1) - 30 * (rng.random(trees + 1) < 0.15)
    vesicles = np.where(rng.random(trees + 1) < 0.3, 0.4, 0.04)
    grain = gaussian_filter(
        rng.standard_normal(GRAIN_SHAPE, dtype=np.float32), GRAIN_NM / voxel_size, mode="wrap"
    )
    return Tissue(
        tone.astype(np.float32),
        vesicles.astype(np.float32),
        (grain / grain.std()).astype(np.float32),
        int(rng.integers(2**63)),
    )


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
    off = abs(sheet - np.float32(0.9))
    if off > np.float32(0.09) or fade < np.float32(0.1):
        return np.float32(0)
    return np.float32(-55) * (np.float32(1) - off * np.float32(1 / 0.09))


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
