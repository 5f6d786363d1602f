"""Directed synapses from probabilities of their pre- and post-synaptic regions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import cc3d
import numpy as np
from scipy.spatial import cKDTree

from emseg.bounds import Fraction, finite, within
from emseg.decoding.decoder import Decoder, as_function
from emseg.decoding.edge_flags import ordered
from emseg.decoding.edges import check_prediction, check_values, largest_off
from emseg.errors import UserError

PRE, POST = 1, 2


@dataclass(frozen=True, kw_only=True)
class Polarity(Decoder):
    """Labels (Z, Y, X), uint32: synapse s has its pre-synaptic region as 2 s - 1, its post as 2 s.

    A voxel belongs to the more probable side (pre, if they are equal) if that probability, and that
    of both, exceed `threshold`. Regions are the 26-connected components of either side.

    A synapse is one region of each side. Regions that touch are paired first, the largest area of
    contact (nm²) first; then the nearest of the others. Of equal pairs the one with the earlier
    pre-synaptic, then post-synaptic region is first; regions are in the order of their first
    voxels. A region without a partner has no direction and becomes 0. Synapses are numbered by
    first voxels.

    Channels as in Lin et al. 2020, "Two-stream active query suggestion for active learning in
    connectomics". Instances from components are from PyTorch Connectomics, which uses components of
    the union and makes no pairs.

    Args:
        prediction: (2 or 3, Z, Y, X), probabilities of the pre-synaptic, the post-synaptic and, if
            there is a third channel, both regions together: float32, float16 or uint8 (0 to 255).
        threshold: compared as float32.
        max_distance: nm between the centres of voxels of regions that do not touch.
        dust_remove_size: regions of fewer voxels are left out.
        voxel_size: nm.

    Raises:
        UserError: other channels, logits and numbers out of range.
    """

    threshold: Fraction = 0.5
    max_distance: Annotated[float, finite(0)] = 50.0
    dust_remove_size: Annotated[int, within(0)] = 100

    def __call__(self, prediction: np.ndarray, *, voxel_size: Sequence[float]) -> np.ndarray:
        _check_prediction(prediction)
        regions = _regions(_sides(prediction, self.threshold), self.dust_remove_size)
        touching = [pair for _, *pair in sorted(_contacts(regions, voxel_size))]
        pairs = _one_to_one(touching)
        paired = {region for pair in pairs for region in pair}
        alone = sorted({*range(1, len(regions.sides))} - paired)
        gaps = sorted(_gaps(regions, alone, voxel_size, self.max_distance))
        pairs += _one_to_one([pair for _, *pair in gaps])
        return _synapses(regions, sorted(pairs, key=min))


@dataclass(frozen=True)
class _Regions:
    """Regions from 1 in the order of first voxels: where they are, and the side of each."""

    volume: np.ndarray  # (Z, Y, X) uint32, 0 for none
    voxels: np.ndarray  # flat, of all regions, ascending
    sides: np.ndarray  # by region, that of 0 being 0

    def places(self, regions: Sequence[int]) -> list[np.ndarray]:
        """For each of the regions, ascending, its voxels (N, 3)."""
        region = self.volume.reshape(-1)[self.voxels]
        inside = np.isin(region, regions)
        voxels, region = self.voxels[inside], region[inside]
        by_region = voxels[np.argsort(region, kind="stable")]
        at = np.stack(np.unravel_index(by_region, self.volume.shape), axis=1)
        return np.split(at, np.searchsorted(np.sort(region), regions[1:]))


def _check_prediction(prediction: np.ndarray) -> None:
    if len(prediction) not in (2, 3):
        raise UserError(
            "decoding=polarity takes the channels pre and post, and both together where there are "
            f"three; the prediction has {len(prediction)} (inference.model.select_channel)"
        )
    check_prediction(prediction, offsets=[(0, 0, 0)] * len(prediction))
    check_values([prediction], prediction.dtype)


def _sides(prediction: np.ndarray, threshold: float) -> np.ndarray:
    """PRE, POST or 0 for each voxel."""
    pre, post, *both = ordered(prediction)
    off = largest_off(prediction.dtype, threshold).view(pre.dtype)
    on = np.maximum(pre, post) > off
    for one in both:
        on &= one > off
    return np.where(on, np.where(pre >= post, np.uint8(PRE), np.uint8(POST)), np.uint8(0))


def _regions(sides: np.ndarray, dust_remove_size: int) -> _Regions:
    volume = cc3d.connected_components(sides, connectivity=26, out_dtype=np.uint32)
    volume = np.ascontiguousarray(volume)
    flat = volume.reshape(-1)
    voxels = np.flatnonzero(flat)
    _, first, piece, sizes = np.unique(
        flat[voxels], return_index=True, return_inverse=True, return_counts=True
    )
    large_enough = np.flatnonzero(sizes >= dust_remove_size)
    large_enough = large_enough[np.argsort(first[large_enough])]
    numbers = np.zeros(len(sizes), np.uint32)
    numbers[large_enough] = np.arange(1, len(large_enough) + 1)
    flat[voxels] = numbers[piece]
    first_voxels = voxels[first[large_enough]]
    by_region = np.concatenate([[0], sides.reshape(-1)[first_voxels]])
    return _Regions(volume, voxels[numbers[piece] > 0], by_region)


def _contacts(regions: _Regions, voxel_size: Sequence[float]) -> Iterator[tuple[float, int, int]]:
    """(minus their common area in nm², pre, post) of all regions that touch by voxel faces."""
    areas: dict[tuple[int, int], float] = {}
    flat, shape = regions.volume.reshape(-1), regions.volume.shape
    at = np.unravel_index(regions.voxels, shape)
    for axis, nm in enumerate(voxel_size):
        here = regions.voxels[at[axis] < shape[axis] - 1]
        one, other = flat[here], flat[here + int(np.prod(shape[axis + 1 :]))]
        meet = (other > 0) & (one != other)
        ends = np.sort(np.stack([one[meet], other[meet]], axis=1), axis=1)
        found, faces = np.unique(ends, axis=0, return_counts=True)
        face = float(np.prod(voxel_size)) / nm
        for pair, count in zip(found.tolist(), faces.tolist(), strict=True):
            areas[tuple(pair)] = areas.get(tuple(pair), 0.0) + count * face
    for (one, other), area in areas.items():
        yield -area, *_directed(regions, one, other)


def _directed(regions: _Regions, one: int, other: int) -> tuple[int, int]:
    return (one, other) if regions.sides[one] == PRE else (other, one)


def _gaps(
    regions: _Regions, alone: Sequence[int], voxel_size: Sequence[float], max_distance: float
) -> Iterator[tuple[float, int, int]]:
    """(nm between them, pre, post) of those regions that are near enough."""
    at = [voxels * np.array(voxel_size) for voxels in regions.places(alone)]
    places = dict(zip(alone, at, strict=True)) if alone else {}
    trees = {r: cKDTree(nm) for r, nm in places.items() if regions.sides[r] == POST}
    if not trees:
        return
    posts = np.array(list(trees))
    low = np.array([places[post].min(axis=0) for post in trees])
    high = np.array([places[post].max(axis=0) for post in trees])
    for pre in (region for region in places if regions.sides[region] == PRE):
        apart = np.maximum(low - places[pre].max(axis=0), places[pre].min(axis=0) - high)
        boxes_near = np.linalg.norm(np.maximum(apart, 0), axis=1) <= max_distance
        for post in posts[boxes_near].tolist():
            gap = float(trees[post].query(places[pre])[0].min())
            if gap <= max_distance:
                yield gap, pre, post


def _one_to_one(pairs: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The pairs, best first, of which neither end is in a better pair that was chosen."""
    taken: set[int] = set()
    free = []
    for pre, post in pairs:
        if taken.isdisjoint((pre, post)):
            taken |= {pre, post}
            free.append((pre, post))
    return free


def _synapses(regions: _Regions, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    labels = np.zeros(len(regions.sides), np.uint32)
    for number, (pre, post) in enumerate(pairs, 1):
        labels[pre], labels[post] = 2 * number - 1, 2 * number
    return labels[regions.volume]


polarity = as_function(Polarity)
