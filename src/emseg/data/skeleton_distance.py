"""The target of a voxel's distances to the skeleton and to the border of its object."""

from collections.abc import Iterator
from typing import Annotated

import edt
import fastremap
import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from emseg.bounds import AboveZero, checked, within
from emseg.data.targets import Target


class SkeletonDistance(Target):
    """The skeleton-aware distance target: 1 on an object's skeleton, towards 0 at its border.

    One channel, float32: (b / (b + s)) ** `alpha` inside an object, b being the distance to the
    nearest pixel that is not of the object and s that to the object's skeleton. (Lin et al. 2023,
    "Structure-preserving instance segmentation via skeleton-aware distance transform".)

    Unknown voxels belong to no object and are masked; so is an object that fills its section and
    has no border.

    Args:
        resolution: nm, of the stored axes. Each section across the coarsest axis (the first of
            equals) is a separate picture: skeletons and distances are in its plane.
        alpha: above 0.
        background: the value outside objects, -1 to 0.
    """

    names = ("skeleton-distance",)
    # Of [-1, 1].
    activations = ("tanh",)

    @checked
    def __init__(
        self,
        *,
        resolution: tuple[AboveZero, AboveZero, AboveZero],
        alpha: AboveZero = 0.8,
        background: Annotated[float, within(-1, 0)] = -1.0,
    ) -> None:
        self._across = int(np.argmax(resolution))
        self._pixel = [nm for axis, nm in enumerate(resolution) if axis != self._across]
        self._alpha = alpha
        self._background = background

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.full(labels.shape, self._background, np.float32)
        mask = labels != -1
        # Renumbered, because finding the objects takes time up to the largest id.
        objects, _ = fastremap.renumber(np.where(mask, labels, 0).astype(np.uint32))
        arrays = (np.moveaxis(array, self._across, 0) for array in (objects, values, mask))
        for section, into, known in zip(*arrays, strict=True):
            border = edt.edt(np.ascontiguousarray(section), anisotropy=self._pixel, parallel=1)
            for box, inside in _objects(section):
                if np.isinf(border[box][inside]).any():
                    known[box][inside] = False
                else:
                    into[box][inside] = self._of_object(border[box][inside], inside)
        return values[np.newaxis], mask[np.newaxis]

    def _of_object(self, border: np.ndarray, inside: np.ndarray) -> np.ndarray:
        skeleton = skeletonize(inside)
        distance = ndimage.distance_transform_edt(~skeleton, sampling=self._pixel)[inside]
        return (border / (border + distance)) ** self._alpha


def _objects(section: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """For each object its bounding box and its mask in that."""
    for number, box in enumerate(ndimage.find_objects(section), 1):
        if box is not None:
            yield box, section[box] == number
