"""The voxel grid of volumes, which a network learns implicitly."""

import numpy as np

from emseg.training.facts import Facts
from emseg.volumes import Volume

# Voxel sizes closer than this count as equal: headers round.
TOLERANCE = 0.01


def unlike_training(image: Volume, trained: Facts) -> str | None:
    """A line for the user if the image has another grid than the training, else None."""
    if trained.axes is not None and image.axes != trained.axes:
        return f"{image.location} has axes {image.axes}, the network is trained on {trained.axes}"
    own, other = image.voxel_size, trained.voxel_size
    if own and other and not np.allclose(own, other, rtol=TOLERANCE):
        return (
            f"{image.location} has voxels of {list(own)} nm, the network is trained on "
            f"{list(other)} nm"
        )
    return None
