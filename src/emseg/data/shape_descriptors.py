"""The target of local shape descriptors: where an object lies around each of its voxels."""

import itertools

import fastremap
import numpy as np
from scipy import ndimage

from emseg.bounds import AboveZero, checked
from emseg.data.targets import Target

# A Gaussian ends after so many of its sigmas.
TRUNCATE = 3.0
# The least variance in nm², by which covariances are divided.
LEAST_VARIANCE = 1e-3
# Pairs of axes with a correlation: zy, zx, yx.
PAIRS = ((0, 1), (0, 2), (1, 2))


class ShapeDescriptors(Target):
    """The local shape descriptors (LSDs) of an object's voxels: moments of the object around them.

    Ten channels in [0, 1], float32, of the voxels of the same object, weighted by a Gaussian around
    the voxel: the offset of their mean along the three axes (0.5: none, 1: one sigma), their
    variances in sigma², their three correlations (0.5: none) and their share of all weight. All
    are 0 in the background. Axes and units as stored. (Sheridan et al., "Local shape descriptors
    for neuron segmentation", Nature Methods 2023; order and values are those of lsds and lsd-lite.)

    Unlabelled voxels are masked; around others they count as not of the object.

    Args:
        resolution: nm, of the stored axes.
        sigma: nm; the Gaussian's, along each axis. It ends after three sigmas, the target's
            context.
    """

    names = (
        *("offset-0", "offset-1", "offset-2"),
        *("variance-0", "variance-1", "variance-2"),
        *("correlation-0-1", "correlation-0-2", "correlation-1-2"),
        "size",
    )

    @checked
    def __init__(
        self, *, resolution: tuple[AboveZero, AboveZero, AboveZero], sigma: AboveZero = 80.0
    ) -> None:
        self._sigma = sigma
        reach = [int(TRUNCATE * sigma / nm + 0.5) for nm in resolution]
        self._kernels = [
            _weights(sigma / nm, steps) * (nm * np.arange(-steps, steps + 1)) ** [[0], [1], [2]]
            for nm, steps in zip(resolution, reach, strict=True)
        ]
        z, y, x = reach
        self.context = (z, y, x), (z, y, x)

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.zeros((len(self.names), *labels.shape), np.float32)
        known = labels != -1
        # Renumbered, because finding the objects takes time up to the largest id.
        objects, _ = fastremap.renumber(np.where(known, labels, 0).astype(np.uint32))
        for number, box in enumerate(ndimage.find_objects(objects), 1):
            if box is not None:
                inside = objects[box] == number
                values[:, *box][:, inside] = self._descriptors(inside)[:, inside]
        return values, np.broadcast_to(known, values.shape).copy()

    def _descriptors(self, inside: np.ndarray) -> np.ndarray:
        moments = self._moments(inside)
        mass = np.where(inside, moments[0, 0, 0], 1)
        mean = [moments[order] / mass for order in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
        square = [moments[order] / mass for order in ((2, 0, 0), (0, 2, 0), (0, 0, 2))]
        product = [moments[order] / mass for order in ((1, 1, 0), (1, 0, 1), (0, 1, 1))]
        variance = [np.maximum(s - m**2, LEAST_VARIANCE) for s, m in zip(square, mean, strict=True)]
        correlation = [
            (both - mean[i] * mean[j]) / np.sqrt(variance[i] * variance[j])
            for both, (i, j) in zip(product, PAIRS, strict=True)
        ]
        found = [
            *(0.5 + 0.5 * one / self._sigma for one in mean),
            *(one / self._sigma**2 for one in variance),
            *(0.5 + 0.5 * one for one in correlation),
            moments[0, 0, 0],
        ]
        return np.clip(found, 0, 1)

    def _moments(self, inside: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
        """Weighted sums of products of distances in nm to a voxel, by their powers: 0 to 2 in all.

        Distances are those to the voxel itself, so that no large numbers are subtracted.
        """
        found = {(): inside.astype(np.float64)}
        for axis, kernels in enumerate(self._kernels):
            found = {
                (*powers, power): ndimage.correlate1d(
                    part, kernels[power], axis=axis, mode="constant"
                )
                for (powers, part), power in itertools.product(found.items(), range(3))
                if sum(powers) + power <= 2
            }
        return found


def _weights(sigma: float, reach: int) -> np.ndarray:
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()
