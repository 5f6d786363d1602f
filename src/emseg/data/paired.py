"""Labelled samples, each paired with two views of an unlabelled patch."""

import numpy as np

from emseg.data.dataset import PatchDataset
from emseg.errors import UserError


class PairedDataset:
    """Two endless datasets side by side: sample `index` holds the samples `index` of both.

    It is that of `labelled`, plus `unlabelled` and `perturbed` (C, Z, Y, X), float32 in [0, 1], the
    clean view of the other's patch and the student's.

    Args:
        labelled: has a target.
        unlabelled: has a perturbation and, if both have the same seed, its own namespace, so that
            their draws are independent.

    Attributes:
        notes: of both.
        intensities: of `labelled` alone.

    Raises:
        UserError: their images differ in channels.
    """

    def __init__(self, labelled: PatchDataset, unlabelled: PatchDataset) -> None:
        if labelled.channels != unlabelled.channels:
            raise UserError(
                f"labelled images have {labelled.channels} channels, unlabelled ones "
                f"{unlabelled.channels}"
            )
        self._labelled, self._unlabelled = labelled, unlabelled
        self.notes = [*labelled.notes, *unlabelled.notes]
        self.intensities = labelled.intensities

    @property
    def channels(self) -> int:
        """The number of image channels."""
        return self._labelled.channels

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        other = self._unlabelled[index]
        views = {"unlabelled": other["image"], "perturbed": other["perturbed"]}
        return {**self._labelled[index], **views}
