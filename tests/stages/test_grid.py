"""What is said of a volume that lies otherwise than those of the training."""

import numpy as np

from emseg.stages.voxel_grid import unlike_training
from emseg.training.facts import Facts
from emseg.volumes import from_array


def test_other_axes_than_in_training_are_said() -> None:
    array = np.zeros((4, 5, 6), np.uint8)
    facts = Facts(global_step=0, axes="zyx", voxel_size=None, in_channels=1, patch_size=(1, 1, 1))
    told = unlike_training(from_array(array, axes="xyz"), facts)
    assert told is not None and "axes xyz, the network is trained on zyx" in told
    assert unlike_training(from_array(array, axes="zyx"), facts) is None
