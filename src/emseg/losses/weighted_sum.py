"""Several losses of the same logits, added up."""

from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn

from emseg.bounds import Weight, at_least, checked
from emseg.losses.loss_arguments import ask_loss, check_names

Losses = Annotated[Mapping[str, nn.Module], at_least(1)]


class WeightedSum(nn.Module):
    """The weighted sum of named losses, and each one's own value before weighting.

    Called with logits, target and mask, all `(B, C, Z, Y, X)`, and the `image` if one of them has
    that argument; returns `(total, {name: value})`.

    Args:
        losses: one or more.
        weights: 0 or more, by the names of `losses`; 0 leaves a loss out of the sum but still
            reports it.

    Raises:
        UserError: the names of losses and weights differ.
    """

    @checked
    def __init__(self, *, losses: Losses, weights: Mapping[str, Weight]) -> None:
        super().__init__()
        check_names(weights, losses, where="loss.weights")
        self.losses = nn.ModuleDict(losses)
        self.weights = dict(weights)

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor, image: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        given = (logits, target, mask, image)
        parts = {name: ask_loss(loss, *given)[0] for name, loss in self.losses.items()}
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return total, {name: part.detach() for name, part in parts.items()}
