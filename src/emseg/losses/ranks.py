"""Sums over the ranks of a distributed run."""

import torch
from torch import Tensor, distributed


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
    """The mean of `values` where `mask` is true, over all ranks; 0 if it is nowhere true.

    Both are `(B, C, ...)` of the same shape.
    """
    sums = torch.stack([(values * mask).sum(), mask.sum().to(values.dtype)])
    total, count = sum_over_ranks(sums)
    return total / count.clamp(min=1)
