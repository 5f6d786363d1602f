"""Separate parts of a network for the heads of a target."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from emseg.errors import UserError

# The channels [first, stop) of each head, in order.
Heads = Mapping[str, tuple[int, int]]


class SeparateHeads(nn.ModuleDict):
    """The concatenated logits of named heads, each of its own part of the network.

    Args:
        heads: two or more, of all output channels.
        make: the part for a number of output channels.
        deep_supervision: whether the network has other outputs too, which is not possible.

    Raises:
        UserError: any of them does not fit.
    """

    def __init__(
        self, heads: Heads | None, make: Callable[[int], nn.Module], *, deep_supervision: bool
    ) -> None:
        if heads is None or len(heads) < 2:
            raise UserError("model.separate_heads=true needs a target of two heads or more")
        if deep_supervision:
            raise UserError(
                "model.separate_heads=true does not go with model.deep_supervision=true"
            )
        super().__init__({name: make(stop - first) for name, (first, stop) in heads.items()})

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x) for head in self.values()], dim=1)
