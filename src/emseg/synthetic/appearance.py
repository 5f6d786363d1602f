"""The image of neurites in an electron microscope: membranes, organelles, grain."""

import math

import edt
import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from emseg.synthetic.neurites import Neurites, balls_in

CYTOPLASM, MEMBRANE, MITOCHONDRION = 168.0, 48.0, 98.0
TONE, DARKER = 18.0, 55.0  # differences between neurites; some are much darker
MEMBRANE_NM = 16.5  # from its middle to where it is no longer visible
SECTION_NM = 14.0  # an oblique membrane this far above or below is still visible
VESICLE_NM = 16.0  # radius
VESICLES_PER_UM3 = 3000  # in boutons
TEXTURE_NM = 130.0  # scale of smooth variations
GRAIN, NOISE = 22.0, 12.0  # grey levels: blurred by the microscope, and not


def draw(
    labels: np.ndarray, neurites: Neurites, voxel_size: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A float32 image of the labels, without synapses and without the effects of `expose`."""
    apart = voxel_size.copy()
    apart[voxel_size.argmax()] = min(SECTION_NM, voxel_size.max() / 2)
    to_membrane = edt.edt(labels, anisotropy=tuple(apart.tolist()), parallel=1)
    count = int(neurites.neurite.max()) + 1
    tone = CYTOPLASM + rng.normal(0, TONE, count) - DARKER * (rng.random(count) < 0.25)
    image = tone.astype(np.float32)[labels]
    sheets, strength = (_smooth(labels.shape, voxel_size, rng) for _ in range(2))
    # Endoplasmic reticulum: dark sheets that are not boundaries.
    off = np.abs(sheets - 0.5)
    image -= 65 * np.clip(1 - off / 0.13, 0, 1) * (strength > -0.6)
    _draw_mitochondria(image, labels, neurites, to_membrane, sheets, voxel_size, rng)
    boutons = rng.random(count) < 0.3
    within = boutons[labels] & (to_membrane > VESICLE_NM)
    volume = float(np.prod(voxel_size)) * 1e-9
    draw_vesicles(image, within, VESICLES_PER_UM3 * volume, voxel_size, rng)
    # Membranes are faint in places.
    dark = np.clip(0.75 + 0.2 * strength, 0.2, 1)
    dark *= np.clip((MEMBRANE_NM - to_membrane) / 10, 0, 1)
    image += (MEMBRANE - image) * dark
    return image


def expose(image: np.ndarray, voxel_size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image as the microscope shows it: uint8, blurred and noisy."""
    image = image + GRAIN * rng.standard_normal(image.shape, np.float32)
    image = gaussian_filter(image, 5.0 / voxel_size)
    image += NOISE * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def draw_vesicles(
    image: np.ndarray,
    within: np.ndarray,
    chance: float,
    voxel_size: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draws synaptic vesicles into `image`, at each voxel of `within` with this probability."""
    chosen = within & (rng.random(within.shape, np.float32) < chance)
    centres = np.argwhere(chosen) * voxel_size
    rim = 7.0
    radii = np.full(len(centres), VESICLE_NM + rim)
    for box, depth in balls_in(image.shape, centres, radii, voxel_size=voxel_size):
        off = np.abs(depth - rim)
        image[box] -= np.where(depth > 0, 60 * np.clip(1 - off / rim, 0, 1), 0)


def _draw_mitochondria(
    image: np.ndarray,
    labels: np.ndarray,
    neurites: Neurites,
    to_membrane: np.ndarray,
    sheets: np.ndarray,
    voxel_size: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draws mitochondria along a third of each thick neurite: dark rim, folds, dense matrix."""
    phase = rng.integers(0, 24, int(neurites.neurite.max()) + 1)[neurites.neurite]
    at = np.rint(neurites.point / voxel_size).astype(int)
    radius = np.minimum(0.9 * to_membrane[tuple(at.T)], 110)
    held = ((np.arange(len(phase)) + phase) % 24 < 9) & (radius > 40)
    inside = np.zeros(labels.shape, np.float32)
    balls = balls_in(labels.shape, neurites.point[held], radius[held], voxel_size=voxel_size)
    for name, (box, depth) in zip(neurites.neurite[held], balls, strict=True):
        np.maximum(inside[box], depth * (labels[box] == name), out=inside[box])
    where = inside > 0
    folds = MITOCHONDRION + 25 * np.sin(11 * sheets[where])
    image[where] = np.where(inside[where] < 7, MITOCHONDRION - 38, folds)


def _smooth(shape: tuple[int, ...], voxel_size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random field, float32 of unit variance."""
    size = [math.ceil(n * s / (TEXTURE_NM / 2)) + 2 for n, s in zip(shape, voxel_size, strict=True)]
    coarse = gaussian_filter(rng.standard_normal(size, np.float32), 1.0, mode="wrap")
    return zoom(coarse / coarse.std(), np.array(shape) / size, order=1)
