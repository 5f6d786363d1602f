"""Sums and means over the entries of a batch, on all ranks of a distributed run."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, distributed

from emseg.bounds import Weight, at_least
from emseg.errors import UserError

ChannelWeights = Annotated[Sequence[Weight], at_least(1)]


def sum_over_ranks(value: Tensor) -> Tensor:
    """The sum of `value` over all ranks, with a gradient made for DDP.

    DDP averages the ranks' gradients. The gradient of the sum by this rank's `value` is therefore
    multiplied by the number of ranks: a loss of such sums then has the value and the gradients of
    one process with the batches of all ranks. All ranks must call it equally often; with a single
    rank it is the value itself.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    share = value * distributed.get_world_size()
    return share + (total - share).detach()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of values (B, C, ...) over all ranks, weighted by a mask or weights of that shape.

    The sum of weights counts as 1 if it is less, so that the mean of nothing is 0.
    """
    sums = torch.stack([(values * mask).sum(), mask.sum().to(values.dtype)])
    total, count = sum_over_ranks(sums)
    return total / count.clamp(min=1)


def weights_of_channels(weights: ChannelWeights, channels: Tensor) -> Tensor:
    """The weights as a tensor (C); UserError unless the tensor of channels (C, ...) has as many."""
    if len(weights) != len(channels):
        raise UserError(
            f"loss.channel_weights has {len(weights)} entries for {len(channels)} channels"
        )
    return channels.new_tensor(weights)
