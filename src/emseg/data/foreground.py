"""The target of binary segmentation: foreground or not."""

from typing import Annotated

import numpy as np

from emseg.bounds import Rule, checked
from emseg.data.targets import Target

Name = Annotated[str, Rule("a name of letters, digits and _", str.isidentifier)]


class Foreground(Target):
    """The target with one channel: 1 in any object, else 0; unlabelled voxels are masked.

    Args:
        name: of the channel, of letters, digits and _.
    """

    @checked
    def __init__(self, *, name: Name = "foreground") -> None:
        self.names = (name,)

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (labels > 0).view(np.uint8)[np.newaxis], (labels >= 0)[np.newaxis]
