"""Pretraining without labels: a network predicts hidden patches of images."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from emseg.bounds import Fraction, Weight
from emseg.losses.loss_arguments import try_loss, with_parts
from emseg.training.masking import Share, masking_by
from emseg.training.objective import Batch, Losses, Objective, Parts

# The value of hidden patches in pictures.
GREY = 0.5


class MaskedPretraining(Objective):
    """Trains `net` to predict patches of images that are hidden by a strategy.

    `net` takes images and a mask (B, *grid), true where a patch is hidden, and knows its `grid`;
    `loss` takes its predictions, the images and the mask. What is hidden of a sample depends on its
    `seed`: the same patches on any device, in any batch or resumed run. (dbMiM, Chen et al. 2023;
    SimMIM, Xie et al. 2022.)

    Args:
        strategy, ratio, fraction, power, noise: see `masking_by`, also for the errors.
    """

    of_target = False
    hides_patches = True

    def __init__(
        self,
        parts: Parts,
        *,
        strategy: str = "random",
        ratio: Share = 0.75,
        fraction: Fraction | None = None,
        power: Weight | None = None,
        noise: Weight | None = None,
    ) -> None:
        super().__init__(parts)
        self.masking = masking_by(
            strategy=strategy, ratio=ratio, fraction=fraction, power=power, noise=noise
        )

    def forward(self, image: Tensor, token_mask: Tensor) -> Tensor:
        guess: Tensor = self.net(image.to(memory_format=self.memory_format), token_mask)
        return guess

    def hidden(self, batch: Batch) -> Tensor:
        """Which patches of a batch are hidden, (B, *grid)."""
        grid: Any = self.net.grid
        masks = [
            self.masking(image[None], grid, torch.Generator().manual_seed(seed))
            for image, seed in zip(batch["image"], batch["seed"].tolist(), strict=True)
        ]
        return torch.cat(masks)

    def losses(self, batch: Batch) -> Losses:
        image, mask = batch["image"], self.hidden(batch)
        return with_parts(self.loss(self(image, mask), image, mask))

    def loss_parts(self, channels: int) -> list[str]:
        toy = torch.zeros(1, channels, 2, 2, 2)
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
        return try_loss(self.loss, toy, lambda guess: with_parts(self.loss(guess, toy, mask)))

    def pictures(self, batch: Batch) -> list[Tensor]:
        """The image, what the network sees of it, and all its predictions."""
        image, mask = batch["image"], self.hidden(batch)
        hidden = interpolate(mask[:, None].float(), size=image.shape[2:]) > 0
        return [image[0], image.masked_fill(hidden, GREY)[0], self(image, mask)[0]]
