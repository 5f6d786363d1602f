"""Watershed fragments of single sections, seeded far from boundaries, as input of a multicut."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from emseg.blocks.memory import cores
from emseg.bounds import Fraction, check_fields, finite, within
from emseg.decoding.agglomeration.region_graph import RegionGraph
from emseg.decoding.agglomeration.section_fragments import GRID_SPACING, affinities_within
from emseg.decoding.agglomeration.supervoxels import given_supervoxels, in_parallel
from emseg.decoding.edges import AxisEdge, edges_of
from emseg.kernels.section_watershed import grow_seeds, number_by_first, seed_grid

# Gaussians end after this many sigmas; beyond the border, pixels are mirrored at the last one.
_GAUSSIAN = {"mode": "mirror", "truncate": 3.0}
_ALL_NEIGHBOURS = np.ones((3, 3), bool)
_Pixels = Annotated[float, finite(0)]


@dataclass(frozen=True, kw_only=True)
class SectionRules:
    """How sections are cut into fragments.

    A pixel is boundary if the larger of 1 minus its affinities along axes 1 and 2 exceeds
    `boundary_threshold`. Seeds are the maxima, over eight neighbours, of the distance to boundary
    pixels, smoothed by `seed_sigma` pixels. They grow on `boundary_weight` * the boundary, smoothed
    by `weight_sigma`, + (1 - `boundary_weight`) * the nearness to boundary pixels. Fragments of
    fewer than `min_fragment_size` pixels are divided among the others.
    """

    boundary_threshold: Fraction = 0.25
    seed_sigma: _Pixels = 2.0
    weight_sigma: _Pixels = 2.0
    boundary_weight: Fraction = 0.9
    min_fragment_size: Annotated[int, within(0)] = 100

    def __post_init__(self) -> None:
        check_fields(self)


def fragments_and_graph(
    prediction: np.ndarray, edges: Sequence[AxisEdge], rules: SectionRules
) -> tuple[np.ndarray, RegionGraph]:
    """(fragments, region graph): uint32 (Z, Y, X), from 1 on in the order of first voxels.

    `prediction` (C, Z, Y, X) of float32, float16 or uint8 must hold probabilities; `edges` says
    which channel is which axis's edge.
    """
    shape = prediction.shape[1:]
    arrays, at = edges_of(prediction, edges, (0, 0, 0), shape)
    if prediction.dtype == np.float16:
        # The bits of -0.0 are those of a negative number.
        arrays = [np.maximum(array, 0) for array in arrays]
    labels = np.empty(shape, np.uint32)

    def fill(z: int) -> None:
        one, two = affinities_within(arrays, at, z, shape[1:], prediction.dtype)
        labels[z] = section_fragments(np.float32(1) - np.minimum(one, two), rules)

    in_parallel(fill, range(len(labels)), threads=cores(), label="fragments")
    count = np.cumsum([0, *labels.max(axis=(1, 2))])
    labels += count[:-1, None, None].astype(np.uint32)
    zeros = partial(np.zeros, int(count[-1]) + 1)
    number_by_first(labels, zeros(np.uint32), zeros(np.int64), zeros(np.int64))
    found = given_supervoxels(labels, prediction, edges=edges, histograms=False)
    return labels, found.graph


def section_fragments(boundary: np.ndarray, rules: SectionRules) -> np.ndarray:
    """Fragments of one section, uint32 (Y, X), from 1 on; `boundary` float32 (Y, X), 0 to 1.

    A section without boundary is one fragment; one without maxima of the distance has seeds on a
    grid. Beier et al., "Multicut brings automated neurite segmentation closer to human
    performance", Nature Methods 2017.
    """
    # Imported here because that takes long.
    from scipy.ndimage import distance_transform_edt, gaussian_filter, label
    from skimage.morphology import local_maxima

    inside = boundary <= np.float32(rules.boundary_threshold)
    if inside.all():
        return np.ones(boundary.shape, np.uint32)
    distance = distance_transform_edt(inside)
    if rules.seed_sigma:
        distance = gaussian_filter(distance, rules.seed_sigma, **_GAUSSIAN)
    # Rounded, so that a plateau does not break into many maxima by the last digits.
    distance = np.round(distance, 6)
    labels = label(local_maxima(distance, connectivity=2), _ALL_NEIGHBOURS)[0].astype(np.uint32)
    if not labels.any():
        seed_grid(labels, GRID_SPACING)
    smooth = gaussian_filter(boundary, rules.weight_sigma, **_GAUSSIAN)
    near = 1 - (distance - distance.min()) / max(distance.max(), 1e-6)
    weight = rules.boundary_weight
    heights = (weight * smooth + (1 - weight) * near).astype(np.float32)
    grow_seeds(heights, labels)
    return _without_small(labels, heights, rules.min_fragment_size)


def _without_small(labels: np.ndarray, heights: np.ndarray, least: int) -> np.ndarray:
    """The fragments of at least `least` pixels, grown over the others; all if none is so large."""
    sizes = np.bincount(labels.ravel())
    large_enough = sizes >= max(least, 1)
    if not large_enough.any() or large_enough[1:].all():
        return labels
    numbers = np.where(large_enough, np.cumsum(large_enough), 0).astype(np.uint32)
    labels = numbers[labels]
    grow_seeds(heights, labels)
    return labels
