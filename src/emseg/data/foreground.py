"""The target of binary segmentation: foreground or not."""

from collections.abc import Sequence

import numpy as np

from emseg.errors import UserError


class Foreground:
    """The target with one channel, `name`: 1 in any object, else 0.

    Unlabelled voxels (-1) are masked. UserError for a name that is no identifier.
    """

    def __init__(self, *, name: str = "foreground") -> None:
        if not name.isidentifier():
            raise UserError(f"target.name: '{name}' is no name (letters, digits and _)")
        self.name = name

    @property
    def out_channels(self) -> int:
        """One."""
        return 1

    @property
    def names(self) -> tuple[str, ...]:
        """The channel's name."""
        return (self.name,)

    def check(self, patch_size: Sequence[int]) -> None:
        """Does nothing: all patch sizes are allowed."""

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Foreground uint8 and its mask (bool, true = known), (1, Z, Y, X), of labels (Z, Y, X)."""
        return (labels > 0).view(np.uint8)[np.newaxis], (labels >= 0)[np.newaxis]
