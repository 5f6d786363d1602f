"""Clean images out of perturbed ones: a training before the training, without labels."""

import torch
from torch import Tensor

from emseg.losses.asking import ask_loss
from emseg.training.objective import Batch, Losses, Objective


class Reconstruction(Objective):
    """A module that teaches `net` to make images from perturbed ones.

    A batch has `image` (B, C, Z, Y, X) and `perturbed`, the same after the config's `perturb`.
    `loss` compares what the network makes of the second with the first, every voxel of it.
    (SSNS-Net, Huang et al. 2022.)
    """

    of_target = False
    perturbs = True

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self.net(image.to(memory_format=self.memory_format))
        return made

    def losses(self, batch: Batch) -> Losses:
        clean, seen = batch["image"], batch["perturbed"]
        return ask_loss(
            self.loss, self(seen), clean, torch.ones_like(clean, dtype=torch.bool), seen
        )

    def loss_parts(self, channels: int) -> list[str]:
        toy = torch.zeros(1, channels, 2, 2, 2)
        _, parts = ask_loss(self.loss, toy, toy, toy.bool(), toy)
        return list(parts)

    def pictures(self, batch: Batch) -> list[Tensor]:
        """The image, what the network sees, and what it makes of that."""
        made = self(batch["perturbed"])[0].float().sigmoid()
        return [batch["image"][0], batch["perturbed"][0], made]
