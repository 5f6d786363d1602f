"""The target of a voxel's distances to the skeleton and to the border of its object."""

from collections.abc import Iterator, Sequence

import edt
import fastremap
import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from emseg.errors import UserError


class SkeletonDistance:
    """The skeleton-aware distance target: 1 on an object's skeleton, towards 0 at its border.

    One channel, float32: (b / (b + s)) ** `alpha` inside an object, b being the distance to the
    nearest pixel that is not of the object and s that to the object's skeleton; `background`
    outside objects. (Lin et al. 2023, "Structure-preserving instance segmentation via
    skeleton-aware distance transform".)

    Each section across the coarsest axis of `resolution` (nm, stored axes; the first of equals) is
    a separate picture: skeletons and distances are in its plane. Unknown voxels belong to no object
    and are masked; so is an object that fills its section and has no border.

    UserErrors: a resolution or `alpha` of 0 or less, a `background` outside [-1, 0].
    """

    out_channels = 1
    names = ("skeleton-distance",)
    # Of [-1, 1].
    activations = ("tanh",)

    def __init__(
        self,
        *,
        resolution: tuple[float, float, float],
        alpha: float = 0.8,
        background: float = -1.0,
    ) -> None:
        if len(resolution) != 3 or min(resolution) <= 0:
            raise UserError(f"target.resolution {list(resolution)} must be three nm above 0")
        if alpha <= 0:
            raise UserError(f"target.alpha is {alpha}; it must be above 0")
        if not -1 <= background <= 0:
            raise UserError(f"target.background is {background}; it must be in [-1, 0]")
        self._across = int(np.argmax(resolution))
        self._pixel = [nm for axis, nm in enumerate(resolution) if axis != self._across]
        self._alpha = alpha
        self._background = background

    def check(self, patch_size: Sequence[int]) -> None:
        """Does nothing: all patch sizes are allowed."""

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (1, Z, Y, X) float32 and their mask (bool, true = known) of labels (Z, Y, X)."""
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
