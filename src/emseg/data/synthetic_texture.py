"""How the neurites of a synthetic volume differ in look."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

GRAIN_NM = 6.5  # its size
GRAIN_SHAPE = (16, 128, 128)  # powers of two: it repeats after this many voxels


@dataclass(frozen=True)
class Tissue:
    """Texture of one volume; `tone` and `vesicles` have one entry a tree number."""

    tone: np.ndarray  # float32: brightness of the cytoplasm against the mean
    vesicles: np.ndarray  # float32: how likely a place for a vesicle is taken
    grain: np.ndarray  # GRAIN_SHAPE float32, unit variance: proteins, ribosomes, stain
    key: int  # of the hash behind vesicles and noise


def make_tissue(trees: int, *, voxel_size: np.ndarray, rng: np.random.Generator) -> Tissue:
    """How each of `trees` neurites looks inside, and the grain of them all."""
    tone = rng.normal(0, 12, trees + 1) - 40 * (rng.random(trees + 1) < 0.25)
    # Boutons are full of vesicles, some neurites have a few, most have none.
    vesicles = rng.choice([0.5, 0.15, 0.0], trees + 1, p=[0.25, 0.15, 0.6])
    grain = gaussian_filter(
        rng.standard_normal(GRAIN_SHAPE, dtype=np.float32), GRAIN_NM / voxel_size, mode="wrap"
    )
    return Tissue(
        tone.astype(np.float32),
        vesicles.astype(np.float32),
        (grain / grain.std()).astype(np.float32),
        int(rng.integers(2**63)),
    )
