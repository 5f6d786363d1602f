"""Squared error of probabilities, with more weight at membranes in the image (MAWS)."""

import torch
from torch import Tensor, nn

from emseg.bounds import AboveZero, Weight, checked
from emseg.losses.membrane import AxisWeights, membrane_edges
from emseg.losses.ranks import ChannelWeights, masked_mean, sum_over_ranks, weights_of_channels


class MembraneWeightedMSE(nn.Module):
    """The weighted mean of (sigmoid - target)^2 where the mask is true.

    Called with logits, target and mask, all `(B, C, Z, Y, X)`, and the network's input image
    `(B, C_in, Z, Y, X)`; computed in float32 over the batch of all ranks. The sum is divided by the
    sum of weights, or by 1 if that is less. (dbMiM: membrane-aware weighted supervision.)

    Args:
        membrane_weight: a voxel's weight is 1 + this times its gradient, divided by the mean
            weight of valid entries.
        axis_weights, clip: of the gradients, see `membrane_edges`.
        channel_weights: one per channel, multiplies its voxels' weights; None: all 1.
    """

    @checked
    def __init__(
        self,
        *,
        membrane_weight: Weight = 0.75,
        axis_weights: AxisWeights = (0.25, 1.0, 1.0),
        clip: AboveZero = 4.0,
        channel_weights: ChannelWeights | None = None,
    ) -> None:
        super().__init__()
        self.membrane_weight = membrane_weight
        self.axis_weights = axis_weights
        self.clip = clip
        self.channel_weights = channel_weights

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        errors = (logits.float().sigmoid() - target.float()).square()
        weight = self.voxel_weights(mask, image)
        if self.channel_weights is not None:
            channels = weights_of_channels(self.channel_weights, weight[0])
            weight = weight * channels.view(-1, 1, 1, 1)
        return masked_mean(errors, weight)

    @torch.no_grad()
    def voxel_weights(self, mask: Tensor, image: Tensor) -> Tensor:
        """The weights of voxels without those of channels, of the mask's shape.

        Where the mask is true they are 1 on average over the batch of all ranks; elsewhere 0.
        """
        edges = membrane_edges(image, axis_weights=self.axis_weights, clip=self.clip)
        weight = (1 + self.membrane_weight * edges) * mask
        total, valid = sum_over_ranks(torch.stack([weight.sum(), mask.sum().to(weight.dtype)]))
        return weight * (valid / total.clamp(min=1))
