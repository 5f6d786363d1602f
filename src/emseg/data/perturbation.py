"""Two views of one patch: as it is, and as a student sees it (SSNS-Net, Huang et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from emseg.data.augment import OneOf, Pipeline, Sample, Size
from emseg.data.augment.transform import enlarged
from emseg.data.intensity import to_unit


@dataclass(kw_only=True)
class Perturbation:
    """The changes of a patch for a student and its teacher; labels are not used.

    Args:
        both: changes the patch for both views: symmetries and warps, which neither should learn to
            undo.
        student: then changes only the student's view.
    """

    both: Pipeline = field(default_factory=Pipeline)
    student: Pipeline | OneOf = field(default_factory=Pipeline)

    def margin(self, size: Size) -> Size:
        """Voxels per axis that are needed beyond each face for two views of `size`."""
        around = self.student.margin(size)
        depth, height, width = np.add(around, self.both.margin(enlarged(size, around))).tolist()
        return depth, height, width

    def check(self, patch_size: Sequence[int], axes: str = "zyx") -> None:
        """Check that the transforms fit patches cut from volumes with these stored axes.

        Raises:
            UserError: one does not fit.
        """
        self.both.check(patch_size, axes, where="perturb.both")
        self.student.check(patch_size, axes, where="perturb.student")

    def views(
        self, sample: Sample, size: Size, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The clean and the perturbed image (C, Z, Y, X) of `size`, float32 in [0, 1].

        The clean image is the middle of the result of `both`, at the same voxels as the student's
        image.

        Args:
            sample: includes the margin.
        """
        seen = self.both(sample, enlarged(size, self.student.margin(size)), rng)
        # A copy, made before the student's transforms, which may write into the sample.
        clean = to_unit(seen.centre(size).image)
        perturbed = to_unit(self.student(seen, size, rng).image)
        return np.ascontiguousarray(clean), np.ascontiguousarray(perturbed)
