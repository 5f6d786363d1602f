"""Absolute error of values, squared where it is small."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from emseg.losses.mse import ACTIVATIONS
from emseg.losses.ranks import masked_mean


class SmoothL1(nn.Module):
    """The mean, where the mask is true, of d^2 / 2 if |d| < 1, else |d| - 1/2.

    d is the activated logit minus the target. Called with logits, target and mask, all
    `(B, C, Z, Y, X)`; computed in float32 over the batch of all ranks. `activation` as of `MSE`:
    `tanh` for values in [-1, 1].
    """

    def __init__(self, *, activation: Literal["none", "sigmoid", "tanh"] = "none") -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        values = ACTIVATIONS[self.activation](logits.float())
        return masked_mean(F.smooth_l1_loss(values, target.float(), reduction="none"), mask)
