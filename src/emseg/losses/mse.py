"""Errors of values: the base of such losses, and the squared error."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from emseg.bounds import checked
from emseg.losses.ranks import masked_mean

# For values in [0, 1] and in [-1, 1].
ACTIVATIONS = {"none": Tensor.float, "sigmoid": Tensor.sigmoid, "tanh": Tensor.tanh}


class ValueLoss(nn.Module):
    """The base of a mean over voxels, where the mask is true, of errors between values.

    Called with logits, target and mask, all `(B, C, Z, Y, X)`; computed in float32 over the batch
    of all ranks.

    Args:
        activation: brings the logits into the target's range: `sigmoid` for values in [0, 1],
            `tanh` for signed distances in [-1, 1].

    Attributes:
        errors: the error of each voxel, from activated logits and target.
    """

    errors: Callable[[Tensor, Tensor], Tensor]

    @checked
    def __init__(self, *, activation: Literal["none", "sigmoid", "tanh"] = "none") -> None:
        super().__init__()
        self.activation = activation

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        values = ACTIVATIONS[self.activation](logits.float())
        return masked_mean(self.errors(values, target.float()), mask)


class MSE(ValueLoss):
    """The mean squared difference of activated logits and target (`ValueLoss`)."""

    errors = staticmethod(partial(F.mse_loss, reduction="none"))
