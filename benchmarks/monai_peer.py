"""What MONAI has that comes nearest to emseg's augmentation, for the benchmark `augment`.

Flips, quarter turns, shifts and gamma are compared, given the same draws; gamma on a patch that
holds black and white, as MONAI takes the patch's own range for [0, 1]. Noise is another for every
generator. The warps differ: MONAI smooths independent noise of all voxels, across sections too, and
mostly moves less than a pixel; ours is one smooth field of 2 to 6 pixels within sections.
"""

from typing import Any

import numpy as np
import torch
from monai import transforms as monai

from emseg.data.augment import Brightness, Flip, Gamma, Rot90, Sample, Transform
from emseg.data.dataset import PatchDataset

ELASTIC = 0.3
BOTH = ("image", "label")
WARPED: dict[str, Any] = {"mode": ("bilinear", "nearest"), "padding_mode": "border"}


class MonaiSamples:
    """Patches that PatchDataset cuts, augmented by MONAI, with a target.

    Of ten samples in a row the first three are composed by `fired`, the others by `rested`.
    """

    channels = 1

    def __init__(
        self, plain: PatchDataset, fired: monai.Compose, rested: monai.Compose, target: Any
    ) -> None:
        self._plain, self._composed, self._target = plain, (fired, rested), target

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        patch = self._plain[index]
        composed = self._composed[index % 10 >= 10 * ELASTIC]
        composed.set_random_state(index)
        label = torch.from_numpy(patch["label"])[None]
        moved = composed({"image": torch.from_numpy(patch["image"]), "label": label})
        labels = np.ascontiguousarray(moved["label"][0].numpy(), np.int32)
        image = np.ascontiguousarray(moved["image"].numpy())
        target, mask = self._target(labels)
        return {"image": image, "target": target, "mask": mask, "label": labels}


def monai_cleft(elastic: float | None) -> monai.Compose:
    """MONAI's nearest to em_cleft; `elastic` is the warp's probability, None takes it away."""
    turns = [monai.RandFlipd(BOTH, 0.5, axis) for axis in (1, 2)]
    return monai.Compose(
        [*turns, monai.RandRotate90d(BOTH, 0.5, 3, (1, 2)), *_elastic(elastic), *_intensities()]
    )


def monai_neuron(elastic: float | None) -> monai.Compose:
    """MONAI's nearest to em_neuron, whose sections it does not know how to spoil."""
    turns = [monai.RandFlipd(BOTH, 0.5, axis) for axis in (0, 1, 2)]
    affine = monai.RandAffined(
        BOTH,
        prob=0.7,
        rotate_range=(np.pi / 4, 0, 0),
        shear_range=(0, 0, 0, 0.05, 0, 0.05),
        scale_range=(0, 0.1, 0.1),
        **WARPED,
    )
    turns += [monai.RandRotate90d(BOTH, 0.5, 3, (1, 2)), affine]
    return monai.Compose([*turns, *_elastic(elastic), *_intensities()])


def _elastic(p: float | None) -> list[monai.Transform]:
    return [] if p is None else [monai.Rand3DElasticd(BOTH, (5, 8), (50, 150), prob=p, **WARPED)]


def _intensities() -> list[monai.Transform]:
    return [
        monai.RandGaussianNoised("image", 0.3, std=0.05),
        monai.RandShiftIntensityd("image", 0.1, prob=0.3),
        monai.RandAdjustContrastd("image", 0.3, (0.7, 1.4)),
    ]


def same_results(source: Sample) -> bool:
    """Whether flips and turns agree to the bit, shift and gamma to a grey level."""
    image, labels = source.image[:, :4, :64, :64].copy(), source.labels[:4, :64, :64]
    image.flat[:2] = 0, 255
    stored, unit = torch.from_numpy(image), torch.from_numpy(image / np.float32(255))

    def mine(transform: Transform, seed: int = 0) -> np.ndarray:
        sample, rng = Sample(image.copy(), labels), np.random.default_rng(seed)
        return transform(sample, sample.size, rng).image

    agree = []
    for seed in range(20):
        flips = [
            axis
            for axis, drawn in enumerate(np.random.default_rng(seed).random(2), 1)
            if drawn < 0.5
        ]
        flipped = monai.Flip(flips)(stored) if flips else stored
        agree.append(np.array_equal(mine(Flip(axes=(1, 2)), seed), flipped))
        rng = np.random.default_rng(seed)
        turned = (
            monai.Rotate90(int(rng.integers(1, 4)), (1, 2))(stored)
            if rng.random() < 0.5
            else stored
        )
        agree.append(np.array_equal(mine(Rot90(axes=(1, 2)), seed), turned))
        shift, power = rng.uniform(-0.1, 0.1), rng.uniform(0.7, 1.4)
        for transform, peer in (
            (Brightness(shift=(shift, shift), p=1), monai.ShiftIntensity(shift)),
            (Gamma(gamma=(power, power), p=1), monai.AdjustContrast(power)),
        ):
            apart = mine(transform) - 255 * peer(unit).numpy().clip(0, 1)
            agree.append(np.abs(apart).max() <= 1)
    return all(agree)
