"""Fragments as basins of a height map of all short affinities: the edges that the flood climbs.

A single channel's strongest edge follows that channel's bias and noise: along it fragments become
rows one voxel wide that bridge slanted membranes. Heights are made of all channels and depend on a
bounded surrounding, so that blocks find the same fragments as the whole volume does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emseg.decoding.edges import AxisEdge, edges_of, legal_edges, probabilities
from emseg.kernels.heights import capped_distances, mean_affinities
from emseg.volumes import Volume

# Of a height: the share of the mean affinity, which leads on where distances are equal.
_SHARE = np.float32(0.01)
_REST = np.float32(1) - _SHARE
# As limits of the flood: what joins nothing; what always joins, which is the height of voxels as
# deep as `reach` whose affinities are all 1 (as of uint8 they often are); and the largest.
LIMITS = np.float32(0), _REST + _SHARE, np.float32(2)

VoxelSize = Sequence[float] | None  # nm; None: all axes alike


def spacing_of(voxel_size: VoxelSize) -> tuple[float, float, float]:
    """The lengths of a voxel in units of the shortest."""
    sizes = (1.0, 1.0, 1.0) if voxel_size is None else voxel_size
    z, y, x = (size / min(sizes) for size in sizes)
    return z, y, x


@dataclass(frozen=True)
class Basins:
    """Heights from 0 to 1: the distance to the nearest boundary voxel, divided by `reach`, up to 1.

    A hundredth is the voxel's mean affinity, which decides where distances are equal. A voxel is
    boundary if its mean affinity does not exceed `boundary`. `spacing` (3,) are lengths of a voxel
    in units of the shortest, as `reach` is.
    """

    boundary: float
    reach: float
    spacing: tuple[float, float, float]

    def edges(
        self,
        prediction: np.ndarray | Volume,
        channels: Sequence[AxisEdge],
        start: Sequence[int],
        stop: Sequence[int],
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """(arrays, at) as of `edges_of` a region: the mean height of each pair, float32.

        Raises:
            UserError: values are no probabilities.
        """
        shape = prediction.shape[-3:]
        margin = [int(self.reach / size) + 2 for size in self.spacing]
        low = [max(a - more, 0) for a, more in zip(start, margin, strict=True)]
        high = [min(b + more, n) for b, more, n in zip(stop, margin, shape, strict=True)]
        heights = self._heights(_means(prediction, channels, low, high))
        arrays, at = [], np.zeros((3, 3), np.int64)
        for axis in range(3):
            # One more voxel before the region, or none at the volume's face.
            before = [int(a == axis and start[a] > 0) for a in range(3)]
            begin = [a - b - c for a, b, c in zip(start, before, low, strict=True)]
            end = [b - c for b, c in zip(stop, low, strict=True)]
            part = heights[tuple(slice(a, b) for a, b in zip(begin, end, strict=True))]
            below, above = [slice(None)] * 3, [slice(None)] * 3
            below[axis], above[axis] = slice(None, -1), slice(1, None)
            pairs = part[tuple(below)] + part[tuple(above)]
            pairs *= np.float32(0.5)
            at[axis, axis] = -1 if start[axis] == 0 else 0
            arrays.append(np.ascontiguousarray(pairs))
        return arrays, at

    def _heights(self, means: np.ndarray) -> np.ndarray:
        distances = np.empty(means.shape, np.float32)
        spacing = np.array(self.spacing, np.float32)
        capped_distances(means > np.float32(self.boundary), spacing, self.reach, distances)
        distances /= np.float32(self.reach)
        distances *= _REST
        means *= _SHARE
        distances += means
        return distances


def _means(
    prediction: np.ndarray | Volume,
    channels: Sequence[AxisEdge],
    start: Sequence[int],
    stop: Sequence[int],
) -> np.ndarray:
    """The mean affinity of each voxel of a region: float32 (Z, Y, X)."""
    shape = prediction.shape[-3:]
    behind = [min(b + 1, n) for b, n in zip(stop, shape, strict=True)]
    arrays, at = edges_of(prediction, channels, start, behind)
    arrays, levels = legal_edges(arrays, prediction.dtype), probabilities(prediction.dtype)
    if levels is not None:
        arrays = [levels[array] for array in arrays]
    faces = np.array([[a == 0, b == n] for a, b, n in zip(start, stop, shape, strict=True)])
    means = np.empty([b - a for a, b in zip(start, stop, strict=True)], np.float32)
    mean_affinities(tuple(arrays), at, faces, means)
    return means
