"""Sections recorded with larger or smaller pixels."""

import math
from dataclasses import dataclass

import numpy as np

from emseg.data.augment.checks import check_interval, check_probability
from emseg.data.augment.grey_values import draw_power
from emseg.data.augment.transform import Sample, Size, Transform
from emseg.data.augment.warps import NO_FIELD, SLACK
from emseg.kernels.warp import warp_sections


@dataclass(frozen=True, kw_only=True)
class Rescale(Transform):
    """With probability `p`, all sections are magnified about their centre by one factor.

    Its logarithm is uniform over `factor`, so that [1/f, f] makes smaller and larger alike. Image
    and labels go together; below 1 more is read around the patch.
    """

    factor: tuple[float, float] = (0.667, 1.5)
    p: float = 0.5

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.factor, name="factor", owner=self, least=0.1)
        check_probability(self.p, owner=self)

    def margin(self, size: Size) -> Size:
        beyond = max(1 / self.factor[0] - 1, 0)
        height, width = (math.ceil((n - 1) / 2 * beyond + SLACK) for n in size[1:])
        return 0, height, width

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        step = 1 / draw_power(self.factor, rng)
        there, centre = (np.subtract(whole[1:], 1) / 2 for whole in (sample.size, size))
        matrix = np.column_stack([step * np.eye(2), there - step * centre])
        image, labels = warp_sections(
            sample.image,
            sample.labels,
            matrices=matrix[np.newaxis],
            field=NO_FIELD,
            first=0,
            size=size,
        )
        return sample.with_arrays(image, labels)
