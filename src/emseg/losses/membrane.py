"""Where membranes are likely: at large gradients of an image."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d

from emseg.bounds import Rule, Weight
from emseg.errors import UserError

# For z, y, x.
AxisWeights = Annotated[tuple[Weight, Weight, Weight], Rule("not all 0", any)]


@torch.no_grad()
def membrane_edges(image: Tensor, *, axis_weights: Sequence[float], clip: float) -> Tensor:
    """The gradients of images: `(B, 1, Z, Y, X)` in float32, 1 on average before they are limited.

    Differences to the voxel before along z, y and x; 0 in an axis's first plane. Channels are
    averaged, and each sample is divided by its mean. (Chen et al. 2023; dbMiM.)

    Args:
        image: `(B, C, Z, Y, X)`.
        axis_weights: of the differences along z, y and x.
        clip: the largest value.
    """
    image = image.float()
    edges = torch.zeros_like(image)
    for axis, weight in enumerate(axis_weights, 2):
        steps = image.diff(dim=axis).abs()
        edges.narrow(axis, 1, steps.shape[axis]).add_(steps, alpha=weight)
    edges = edges.mean(1, keepdim=True)
    mean = edges.mean((1, 2, 3, 4), keepdim=True)
    return (edges / mean.clamp(min=1e-6)).clamp(max=clip)


def patch_means(values: Tensor, grid: Sequence[int]) -> Tensor:
    """The means `(B, *grid)` over patches and channels of `(B, C, Z, Y, X)`.

    Raises:
        UserError: `grid`, the numbers of patches, does not divide the axes.
    """
    shape = values.shape[2:]
    z, y, x = (size // count for size, count in zip(shape, grid, strict=True))
    if any(size % count for size, count in zip(shape, grid, strict=True)):
        raise UserError(f"an image of {list(shape)} voxels has no grid of {list(grid)} patches")
    return avg_pool3d(values.mean(1, keepdim=True), (z, y, x)).squeeze(1)
