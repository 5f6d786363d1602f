"""Squared error of values."""

from typing import Literal

from torch import Tensor, nn

from emseg.losses.ranks import masked_mean

# For values in [0, 1] and in [-1, 1].
ACTIVATIONS = {"none": Tensor.float, "sigmoid": Tensor.sigmoid, "tanh": Tensor.tanh}


class MSE(nn.Module):
    """The mean squared difference of activated logits and target where the mask is true.

    Called with logits, target and mask, all `(B, C, Z, Y, X)`; computed in float32 over the batch
    of all ranks. `activation` brings the logits into the target's range: `sigmoid` for values in
    [0, 1], `tanh` for signed distances in [-1, 1].
    """

    def __init__(self, *, activation: Literal["none", "sigmoid", "tanh"] = "none") -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        values = ACTIVATIONS[self.activation](logits.float())
        return masked_mean((values - target.float()).square(), mask)
