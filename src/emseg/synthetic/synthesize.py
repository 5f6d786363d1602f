"""Synthetic electron microscopy with its complete truth: labels, skeletons, synapses."""

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from emseg.synthetic.appearance import draw, expose
from emseg.synthetic.neurites import grow_neurites, label_voxels, skeletons_of
from emseg.synthetic.synapses import Synapses, place_synapses


@dataclass(frozen=True, kw_only=True)
class SyntheticVolume(Synapses):
    """A volume and its truth, all arrays of one shape.

    `skeletons` has one connected component per label id; nodes carry `id` (int), `index_position`
    (three ints: a voxel of that label) and `nm_position` (three floats, voxel i centred at i times
    the voxel size).
    """

    raw: np.ndarray  # uint8
    labels: np.ndarray  # uint32, 0 in the few voxels outside neurites
    skeletons: nx.Graph
    voxel_size: tuple[float, float, float]  # nm


def synthesize(
    shape: Sequence[int],
    *,
    seed: int,
    voxel_size: Sequence[float] = (30.0, 6.0, 6.0),
    synapses_per_um3: float = 1.5,
) -> SyntheticVolume:
    """A synthetic volume, the same for the same arguments.

    Neurites of about 200 nm grow, branch and fill the volume; each label is one 6-connected piece.
    Between two is a dark membrane, faint in places, and grey where sections cut it obliquely.
    Inside are mitochondria, vesicles and endoplasmic reticulum.

    Args:
        shape: voxels along the three axes.
        seed: for all random choices.
        voxel_size: nm; sections lie along the axis of the largest.
        synapses_per_um3: of as many as there are contacts for.
    """
    sizes = np.array(voxel_size, np.float64)
    rng = np.random.default_rng(seed)
    neurites = grow_neurites((np.array(shape) - 1) * sizes, rng)
    labels = label_voxels(neurites, tuple(shape), sizes)
    image = draw(labels, neurites, sizes, rng)
    synapses = place_synapses(image, labels, voxel_size=sizes, per_um3=synapses_per_um3, rng=rng)
    return SyntheticVolume(
        **vars(synapses),
        raw=expose(image, sizes, rng),
        labels=labels,
        skeletons=skeletons_of(neurites, sizes),
        voxel_size=tuple(sizes.tolist()),
    )
