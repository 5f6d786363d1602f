"""Pretraining without labels: a network restores clean images from perturbed ones."""

import torch
from torch import Tensor

from emseg.training.objective import Batch, Losses, Objective
from emseg.training.outputs import levels_of
from emseg.training.supervised import fit, parts_of_fit


class Reconstruction(Objective):
    """Trains `net` to restore images from perturbed ones. (SSNS-Net, Huang et al. 2022.)

    A batch has `image` (B, C, Z, Y, X) and `perturbed`, the same after the config's `perturb`.

    Args:
        parts: its `loss` compares the network's output for `perturbed` with `image`, at every
            voxel; lists of outputs are handled as in `Supervised`.
    """

    of_target = False
    perturbs = True

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        made: Tensor | list[Tensor] = self.net(image.to(memory_format=self.memory_format))
        return made

    def losses(self, batch: Batch) -> Losses:
        clean, seen = batch["image"], batch["perturbed"]
        known = torch.ones_like(clean, dtype=torch.bool)
        views = {"image": seen, "target": clean, "mask": known}
        return fit(self.loss, levels_of(self(seen)), views)

    def loss_parts(self, channels: int) -> list[str]:
        return parts_of_fit(self.loss, channels, all_known=True)

    def pictures(self, batch: Batch) -> list[Tensor]:
        """The image, the network's input, and its output."""
        made = levels_of(self(batch["perturbed"]))[0]
        return [batch["image"][0], batch["perturbed"][0], made[0].float().sigmoid()]
