"""The loss of masked image modelling: the error of predicted hidden patches."""

import torch
from torch import Tensor, nn

from emseg.bounds import AboveZero, Weight, checked
from emseg.losses.membrane import AxisWeights, membrane_edges, patch_means
from emseg.losses.ranks import masked_mean

# Weights of differences along z, y, x: thick sections differ more from each other.
STRUCTURE_AXES = (0.5, 1.0, 1.0)


class MaskedReconstruction(nn.Module):
    """The error of hidden patches, plus `structure_weight` times that of voxel differences.

    Called with predictions and images `(B, C, Z, Y, X)` and a mask `(B, *grid)`, true where a patch
    was hidden; returns `(total, {"pixel": ..., "structure": ...})`, in float32 over the samples of
    all ranks. `pixel` is the weighted mean of the hidden patches' squared errors of each sample
    (the sum of weights is at least 1). `structure` is the mean absolute error of differences of
    neighbours, over the whole image, axes weighted by `STRUCTURE_AXES`. (dbMiM.)

    Args:
        membrane_weight: a patch has the weight 1 + this times its mean gradient; 0 for a plain
            masked autoencoder, together with `structure_weight` 0.
        axis_weights, clip: of the gradients, see `membrane_edges`.
        structure_weight: of `structure`, which is not computed if this is 0.
    """

    @checked
    def __init__(
        self,
        *,
        membrane_weight: Weight = 1.35,
        axis_weights: AxisWeights = (0.25, 1.0, 1.0),
        clip: AboveZero = 5.0,
        structure_weight: Weight = 0.2,
    ) -> None:
        super().__init__()
        self.membrane_weight = membrane_weight
        self.axis_weights = axis_weights
        self.clip = clip
        self.structure_weight = structure_weight

    def forward(
        self, prediction: Tensor, image: Tensor, token_mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        prediction, image = prediction.float(), image.float()
        total = _mean(self._pixel(prediction, image, token_mask))
        parts = {"pixel": total.detach()}
        if self.structure_weight:
            structure = _mean(_structure(prediction, image))
            total = total + self.structure_weight * structure
            parts["structure"] = structure.detach()
        return total, parts

    def _pixel(self, prediction: Tensor, image: Tensor, token_mask: Tensor) -> Tensor:
        grid = token_mask.shape[1:]
        errors = patch_means((prediction - image).square(), grid)
        weight = token_mask.float()
        if self.membrane_weight:
            edges = membrane_edges(image, axis_weights=self.axis_weights, clip=self.clip)
            weight = weight * (1 + self.membrane_weight * patch_means(edges, grid))
        sums = (weight * errors).sum((1, 2, 3)), weight.sum((1, 2, 3))
        return sums[0] / sums[1].clamp(min=1)


def _structure(prediction: Tensor, image: Tensor) -> Tensor:
    error = prediction - image  # differences are linear: the error of them is that of the error
    each = [error.diff(dim=axis).abs().mean((1, 2, 3, 4)) for axis in (2, 3, 4)]
    weights = error.new_tensor(STRUCTURE_AXES)
    # No matrix product: autocast would round it.
    return (weights[:, None] * torch.stack(each)).sum(0) / weights.sum()


def _mean(samples: Tensor) -> Tensor:
    return masked_mean(samples, torch.ones_like(samples))
