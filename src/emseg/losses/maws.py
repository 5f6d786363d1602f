"""Squared error of probabilities, with more weight at membranes in the image (MAWS)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emseg.errors import UserError
from emseg.losses.membrane import check_edges, membrane_edges
from emseg.losses.ranks import sum_over_ranks


class MembraneWeightedMSE(nn.Module):
    """The weighted mean of (sigmoid - target)^2 where the mask is true.

    Called with logits, target and mask, all `(B, C, Z, Y, X)`, and the network's input image
    `(B, C_in, Z, Y, X)`; computed in float32 over the batch of all ranks. A voxel's weight is 1 +
    `membrane_weight` times its gradient (`membrane_edges` with `axis_weights` and `clip`), divided
    by the mean weight of valid entries, times its channel's weight. The sum is divided by the sum
    of weights, or by 1 if that is less. (dbMiM: membrane-aware weighted supervision.)
    """

    def __init__(
        self,
        *,
        membrane_weight: float = 0.75,
        axis_weights: tuple[float, float, float] = (0.25, 1.0, 1.0),
        clip: float = 4.0,
        channel_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_edges("loss", axis_weights, clip)
        if membrane_weight < 0:
            raise UserError(f"loss.membrane_weight is {membrane_weight}; it must be at least 0")
        if channel_weights is not None and (not channel_weights or min(channel_weights) < 0):
            raise UserError(
                f"loss.channel_weights is {list(channel_weights)}; it needs one weight of at "
                "least 0 for each channel"
            )
        self.membrane_weight = membrane_weight
        self.axis_weights = axis_weights
        self.clip = clip
        self.channel_weights = None if channel_weights is None else list(channel_weights)

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        errors = (logits.float().sigmoid() - target.float()).square()
        weight = self.voxel_weights(mask, image)
        if self.channel_weights is not None:
            if len(self.channel_weights) != logits.shape[1]:
                raise UserError(
                    f"loss.channel_weights has {len(self.channel_weights)} entries for "
                    f"{logits.shape[1]} channels"
                )
            channels = weight.new_tensor(self.channel_weights)
            weight = weight * channels.view(-1, 1, 1, 1)
        total, weights = sum_over_ranks(torch.stack([(errors * weight).sum(), weight.sum()]))
        return total / weights.clamp(min=1)

    @torch.no_grad()
    def voxel_weights(self, mask: Tensor, image: Tensor) -> Tensor:
        """The weights of voxels without those of channels, of the mask's shape.

        Where the mask is true they are 1 on average over the batch of all ranks; elsewhere 0.
        """
        edges = membrane_edges(image, axis_weights=self.axis_weights, clip=self.clip)
        weight = (1 + self.membrane_weight * edges) * mask
        total, valid = sum_over_ranks(torch.stack([weight.sum(), mask.sum().to(weight.dtype)]))
        return weight * (valid / total.clamp(min=1))
