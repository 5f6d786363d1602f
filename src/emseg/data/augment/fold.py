"""Sections that lie on the support with a fold: it shows in the image alone."""

import math
from dataclasses import dataclass

import numpy as np

from emseg.data.augment.checks import check_interval, check_probability
from emseg.data.augment.displaced_sections import draw_sections
from emseg.data.augment.grey_values import grey
from emseg.data.augment.transform import Sample, Size, Transform
from emseg.data.augment.warps import SLACK
from emseg.errors import UserError
from emseg.kernels.warp import warp_sections


@dataclass(frozen=True, kw_only=True)
class Fold(Transform):
    """With probability `p`, a few sections are folded along a line, which hides some tissue.

    Their number is drawn from `sections`. The line goes at any angle through any point. On both
    sides tissue lies nearer to it than it should: beside the line by a number of pixels drawn from
    `pull`, d pixels away by exp(-d / `reach`) of that. A band along the line, of a width in pixels
    drawn from `width`, holds one value, drawn from `fill`. Labels stay.
    """

    sections: tuple[int, int] = (1, 5)
    pull: tuple[float, float] = (4.0, 12.0)
    reach: float = 32.0
    width: tuple[float, float] = (4.0, 12.0)
    fill: tuple[float, float] = (0.0, 0.3)
    p: float = 0.5

    in_sections = True

    def __post_init__(self) -> None:
        check_interval(self.sections, name="sections", owner=self, least=1)
        check_interval(self.pull, name="pull", owner=self, least=0)
        check_interval(self.width, name="width", owner=self, least=0)
        check_interval(self.fill, name="fill", owner=self, least=0, most=1)
        check_probability(self.p, owner=self)
        if not self.pull[1] <= self.reach < math.inf:
            raise UserError(
                f"Fold: reach {self.reach} must be {self.pull[1]}, the strongest pull, or more: "
                "tissue would be seen twice"
            )

    def margin(self, size: Size) -> Size:
        within = math.ceil(self.pull[1] + SLACK)
        return 0, within, within

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        if rng.random() >= self.p:
            return sample.centre(size)
        middle = sample.centre(size)
        image = middle.image.copy()
        for z in draw_sections(self.sections, size[0], rng):
            self._fold(sample, image, z, rng)
        return middle.with_image(image)

    def _fold(self, sample: Sample, image: np.ndarray, z: int, rng: np.random.Generator) -> None:
        """Nothing; section `z` of the image is that of the sample, folded."""
        size = image.shape[2:]
        angle, point = rng.uniform(0, 2 * math.pi), rng.uniform(0, size)
        across = np.array([math.sin(angle), math.cos(angle)])
        rows, columns = np.ogrid[: size[0], : size[1]]
        distance = (rows - point[0]) * across[0] + (columns - point[1]) * across[1]
        pull = rng.uniform(*self.pull) * np.exp(-np.abs(distance) / self.reach) * np.sign(distance)
        around = [(a - b) // 2 for a, b in zip(sample.size[1:], size, strict=True)]
        folded, _ = warp_sections(
            sample.image[:, z : z + 1],
            sample.labels[z : z + 1],
            matrices=np.column_stack([np.eye(2), around])[np.newaxis],
            field=(across[:, np.newaxis, np.newaxis] * pull)[np.newaxis].astype(np.float32),
            first=0,
            size=(1, size[0], size[1]),
        )
        band = np.abs(distance) < rng.uniform(*self.width) / 2
        folded[:, 0, band] = grey(rng.uniform(*self.fill), image.dtype)
        image[:, z] = folded[:, 0]
