"""Fitting a network to targets."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from emseg.losses.loss_arguments import ask_loss, try_loss
from emseg.training.objective import Batch, Losses, Objective
from emseg.training.outputs import levels_of

# Deep supervision: the weight of each auxiliary loss relative to the next finer one.
AUXILIARY_DECAY = 0.5
# The size on which losses are tried: larger than the window of a structural similarity.
TOY = (12, 12, 12)


class Supervised(Objective):
    """Fits `net` to the `target` of batches where their `mask` is true.

    A batch has `image` (B, C_in, Z, Y, X), `target` and `mask` (B, C, Z, Y, X).

    Args:
        parts: its `loss` takes logits and target, and `mask` and `image` if it asks for them
            (`ask_loss`), and returns the total or `(total, {name: part})`. If its network returns a
            list of logits, finest first, each coarser one is compared with every n-th voxel of the
            target, and has half the weight of the one before.
    """

    of_target = True

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        logits: Tensor | list[Tensor] = self.net(image.to(memory_format=self.memory_format))
        return logits

    def losses(self, batch: Batch) -> Losses:
        return fit(self.loss, levels_of(self(batch["image"])), batch)

    def loss_parts(self, channels: int) -> list[str]:
        return parts_of_fit(self.loss, channels)

    def pictures(self, batch: Batch) -> list[Tensor]:
        """The image, then target and prediction of the probabilities, then of each distance."""
        return fit_pictures(self(batch["image"]), batch, self.activations)


def fit(loss: Callable[..., Any], outputs: Sequence[Tensor], batch: Batch) -> Losses:
    """The loss and its parts for the logits, finest first, of a batch."""
    finest, *coarser = outputs
    target, mask, image = batch["target"], batch["mask"], batch["image"]
    total, parts = ask_loss(loss, finest, target, mask, image)
    for depth, logits in enumerate(coarser, 1):
        voxels = _nearest_voxels(target, logits)
        seen = (tensor[voxels] for tensor in (target, mask, image))
        auxiliary, _ = ask_loss(loss, logits, *seen)
        total = total + AUXILIARY_DECAY**depth * auxiliary
        parts |= {f"auxiliary_{depth}": auxiliary.detach()}
    return total, parts


def parts_of_fit(loss: Callable[..., Any], channels: int, *, all_known: bool = False) -> list[str]:
    """The names of a loss's parts, for a network with so many channels.

    Args:
        loss: as `ask_loss` takes it, tried on a toy.
        channels: of the network's logits.
        all_known: whether the target is known everywhere, whatever the data.

    Raises:
        UserError: training could not call the loss.
    """
    toy = torch.linspace(-2, 2, channels * prod(TOY)).view(1, channels, *TOY)
    target, mask = (toy > 0).float(), toy.isfinite()
    mask[..., 0] = all_known
    return try_loss(loss, toy, lambda logits: ask_loss(loss, logits, target, mask, toy[:, :1]))


def fit_pictures(outputs: Tensor, batch: Batch, activations: Sequence[str] | None) -> list[Tensor]:
    """The pictures for a batch of one sample and the network's logits of its image."""
    target, mask = batch["target"][0].float(), batch["mask"][0].bool()
    return [batch["image"][0], *paired(target, mask, outputs[0].float(), activations)]


def paired(
    target: Tensor, mask: Tensor, logits: Tensor, activations: Sequence[str] | None
) -> list[Tensor]:
    """Target and prediction of the probabilities, then of each distance, all in [0, 1].

    Distances are the channels (C, Z, Y, X) of which `activations` (None: all `sigmoid`) says
    `tanh`; -1 becomes 0. Masked voxels of the target are 0.5.
    """
    activations = activations or ("sigmoid",) * len(logits)
    signed = [channel for channel, one in enumerate(activations) if one == "tanh"]
    others = [channel for channel in range(len(logits)) if channel not in signed]
    values, target = logits.sigmoid(), target.clone()
    # For values in [-1, 1]; the sigmoid of 2x is (tanh(x) + 1) / 2.
    values[signed], target[signed] = (2 * logits[signed]).sigmoid(), (target[signed] + 1) / 2
    target = torch.where(mask, target, 0.5)
    groups = [others] * bool(others) + [[channel] for channel in signed]
    return [part[group] for group in groups for part in (target, values)]


def _nearest_voxels(fine: Tensor, coarse: Tensor) -> tuple[Any, ...]:
    # The one in the middle of each coarse voxel, or right after the middle if the factor is even.
    factors = [f // c for f, c in zip(fine.shape[2:], coarse.shape[2:], strict=True)]
    return (..., *(slice(factor // 2, None, factor) for factor in factors))
