"""The parts of a synthetic volume put together: neurites, the lattice over them, their look."""

from dataclasses import dataclass

import numpy as np

from emseg.data.synthetic_lattice import Lattice, make_lattice
from emseg.data.synthetic_neurites import Neurites, grow_neurites
from emseg.data.synthetic_render import draw
from emseg.data.synthetic_texture import Tissue, make_tissue

MARGIN = 1.5  # tissue grown around the volume, in diameters


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
    """What there is to draw in `shape` voxels: neurites, where they are near, and their texture."""
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
    draw(
        raw, labels, lattice.first, lattice.second, lattice.position, lattice.fields, lattice.step,
        lattice.start, neurites.centre, neurites.radius, neurites.tree, neurites.parent,
        neurites.mitochondrion, scene.shift, scene.voxel_size.astype(np.float32), tissue.tone,
        tissue.vesicles, tissue.grain, np.uint64(tissue.key), np.float32(membrane_nm / 2),
        np.float32(extracellular_nm / 2), np.float32(noise), np.float32(organelles),
    )  # fmt: skip
    return raw, labels
