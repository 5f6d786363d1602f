"""What is said of a volume that lies otherwise than those of the training."""

import numpy as np

from emseg.stages.voxel_grid import Grid, unlike_training
from emseg.volumes import from_array


def test_other_axes_than_in_training_are_said() -> None:
    array, grid = np.zeros((4, 5, 6), np.uint8), Grid("zyx", None)
    told = unlike_training(from_array(array, axes="xyz"), grid)
    assert told is not None and "axes xyz, the network is trained on zyx" in told
    assert unlike_training(from_array(array, axes="zyx"), grid) is None
