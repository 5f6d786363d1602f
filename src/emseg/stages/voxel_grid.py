"""The voxel grid of volumes, which a network learns implicitly."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from emseg.volumes import Volume

# Voxel sizes closer than this count as equal: headers round.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Grid:
    """The order of axes and the voxel size (nm, in that order), None if unknown."""

    axes: str | None
    voxel_size: tuple[float, ...] | None


def common_grid(images: Iterable[Volume]) -> Grid:
    """The axes and voxel size that all images share."""
    axes = {image.axes for image in images}
    sizes = {image.voxel_size for image in images}
    return Grid(
        axes=axes.pop() if len(axes) == 1 else None,
        voxel_size=sizes.pop() if len(sizes) == 1 else None,
    )


def unlike_training(image: Volume, trained: Grid) -> str | None:
    """A line for the user if the image has another grid than the training, else None."""
    if trained.axes is not None and image.axes != trained.axes:
        return f"{image.location} has axes {image.axes}, the network is trained on {trained.axes}"
    sizes = image.voxel_size, trained.voxel_size
    if sizes[0] and sizes[1] and not np.allclose(sizes[0], sizes[1], rtol=TOLERANCE):
        return (
            f"{image.location} has voxels of {list(sizes[0])} nm, the network is trained on "
            f"{list(sizes[1])} nm"
        )
    return None
