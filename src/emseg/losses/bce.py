"""Binary cross-entropy of logits, balanced between the classes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emseg.bounds import AboveZero, checked
from emseg.losses.ranks import ChannelWeights, sum_over_ranks, weights_of_channels


class PerChannelBCEWithLogits(nn.Module):
    """The sum over channels of each channel's mean binary cross-entropy where the mask is true.

    Called with logits, target (0 or 1) and mask, all `(B, C, Z, Y, X)`; computed in float32, over
    the batch of all ranks. The class balance is that of PyTorch Connectomics.

    Args:
        auto_pos_weight: gives the positives of a channel the weight min(negatives / positives,
            `max_pos_weight`), or 1 if there are no positives or no negatives. There is no lower
            limit: for affinities, which are mostly positive, it is below 1.
        max_pos_weight: above 0; the highest weight of positives.
        channel_weights: one per channel, multiplies its term; None: all 1.
    """

    @checked
    def __init__(
        self,
        *,
        auto_pos_weight: bool = True,
        max_pos_weight: AboveZero = 10.0,
        channel_weights: ChannelWeights | None = None,
    ) -> None:
        super().__init__()
        self.cap = max_pos_weight if auto_pos_weight else None
        self.channel_weights = channel_weights

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        positive, valid = _counts(target, mask)
        weight = _pos_weight(positive, valid, self.cap)
        means = _sums(logits, target, mask, pos_weight=weight) / valid.clamp(min=1)
        if self.channel_weights is not None:
            means = means * weights_of_channels(self.channel_weights, means)
        return means.sum()


class WeightedBCEWithLogits(nn.Module):
    """The mean binary cross-entropy over all entries where the mask is true, channels together.

    Called with logits, target (0 or 1) and mask, all `(B, C, Z, Y, X)`; computed in float32, over
    the batch of all ranks.

    Args:
        auto_pos_weight: gives all positives the weight min(negatives / positives,
            `max_pos_weight`), or 1 if there are no positives or no negatives.
        max_pos_weight: above 0; the highest weight of positives.
    """

    @checked
    def __init__(self, *, auto_pos_weight: bool = False, max_pos_weight: AboveZero = 10.0) -> None:
        super().__init__()
        self.cap = max_pos_weight if auto_pos_weight else None

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        positive, valid = _counts(target, mask).sum(1, keepdim=True)  # all channels as one
        weight = _pos_weight(positive, valid, self.cap)
        sums = _sums(logits, target, mask, pos_weight=weight)
        return sums.sum() / valid.squeeze(0).clamp(min=1)


def _counts(target: Tensor, mask: Tensor) -> Tensor:
    """Positives and valid entries of each channel, `(2, C)`."""
    valid = mask.float()
    axes = _all_but_channels(valid)
    return sum_over_ranks(torch.stack([(target * valid).sum(axes), valid.sum(axes)]))


def _pos_weight(positive: Tensor, valid: Tensor, cap: float | None) -> Tensor:
    if cap is None:
        return torch.ones_like(valid)
    negative = valid - positive
    ratio = (negative / positive.clamp(min=1)).clamp(max=cap)
    return torch.where((positive > 0) & (negative > 0), ratio, 1.0)


def _sums(logits: Tensor, target: Tensor, mask: Tensor, *, pos_weight: Tensor) -> Tensor:
    per_channel = pos_weight.view(-1, *[1] * (logits.ndim - 2))
    entries = F.binary_cross_entropy_with_logits(
        logits.float(),
        target.float(),
        weight=mask.float(),
        pos_weight=per_channel,
        reduction="none",
    )
    return sum_over_ranks(entries.sum(_all_but_channels(entries)))


def _all_but_channels(x: Tensor) -> tuple[int, ...]:
    return (0, *range(2, x.ndim))
