"""Several losses of the same logits, added up."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from emseg.errors import UserError, unknown_name
from emseg.losses.asking import ask_loss


class WeightedSum(nn.Module):
    """The weighted sum of named losses, and each one's own value before weighting.

    Called with logits, target and mask, all `(B, C, Z, Y, X)`, and the `image` if one of them
    has that argument; returns `(total, {name: value})`.
    `weights` has the names of `losses`; a weight of 0 leaves its loss out of the sum but still
    reports it.
    """

    def __init__(self, *, losses: Mapping[str, nn.Module], weights: Mapping[str, float]) -> None:
        super().__init__()
        if not losses:
            raise UserError("loss.losses is empty; name at least one loss")
        for name, weight in weights.items():
            if name not in losses:
                raise unknown_name("loss", name, losses, where="loss.weights")
            if weight < 0:
                raise UserError(f"loss.weights.{name} is {weight}; it must be at least 0")
        for name in losses:
            if name not in weights:
                raise UserError(f"loss.weights has no entry for '{name}'; give each loss a weight")
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor, image: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        given = (logits, target, mask, image)
        parts = {name: ask_loss(loss, *given)[0] for name, loss in self.losses.items()}
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}
