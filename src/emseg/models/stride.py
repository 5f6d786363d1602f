"""Checks of image sizes for a network."""

from collections.abc import Sequence
from math import prod
from typing import Annotated

from torch import nn

from emseg.bounds import Positive, at_least
from emseg.errors import UserError

Axes = tuple[Positive, Positive, Positive]
# Channels of two or more levels of a U-Net, finest first.
Widths = Annotated[Sequence[Positive], at_least(2)]


def check_input(
    size: Sequence[int], net: nn.Module, *, key: str = "data.dataloader.patch_size"
) -> None:
    """Check that the network takes images of this size.

    Args:
        size: of an image, voxels along each axis.
        net: takes only its `volume_size` if it has one; else multiples of its `stride`, if it has
            that, large enough that no instance norm gets a single voxel.
        key: the setting of the size.

    Raises:
        UserError: another size; it names `key` and the nearest sizes.
    """
    fixed, stride = getattr(net, "volume_size", None), getattr(net, "stride", None)
    if fixed is not None and tuple(size) != tuple(fixed):
        raise UserError(
            f"{key} {list(size)} must be model.volume_size {list(fixed)}: the network takes images "
            "of that size alone"
        )
    # For a layer of torch, `stride` is something else, and may have two axes.
    if stride is None or len(stride) != len(size):
        return
    pairs = list(zip(size, stride, strict=True))
    if any(n % step for n, step in pairs):
        below = [max(step, n - n % step) for n, step in pairs]
        above = [n + -n % step for n, step in pairs]
        advice = f"{below}" if below == above else f"{below} or {above}"
        raise UserError(
            f"{key} {list(size)} is not divisible by the network's stride {list(stride)}; "
            f"nearest: {advice}"
        )
    normed = any(isinstance(module, nn.InstanceNorm3d) for module in net.modules())
    if normed and tuple(size) == tuple(stride):
        z, y, x = size
        raise UserError(
            f"{key} {list(size)} is a single voxel at the network's coarsest level, which "
            f"instance norm sets to 0; nearest: {[z, y, 2 * x]} or {[2 * z, y, x]}"
        )


def stride_of_levels(width: Sequence[int], down_factors: Sequence[Axes], *, depth_2d: int) -> Axes:
    """The stride of a network with one level for each of `width` and factors between them.

    Args:
        width: channels of each level, finest first.
        down_factors: how much coarser (z, y, x) each level is than the one before.
        depth_2d: how many of the levels, from the finest, have kernels within the plane.

    Raises:
        UserError: any of them does not fit the others.
    """
    if len(down_factors) != len(width) - 1:
        raise UserError(
            f"model.down_factors has {len(down_factors)} entries; {len(width)} widths need "
            f"{len(width) - 1}, one between each two levels"
        )
    if depth_2d > len(width):
        raise UserError(f"model.depth_2d is {depth_2d}; allowed: 0 to {len(width)}, the levels")
    z, y, x = (prod(axis) for axis in zip(*down_factors, strict=True))
    return z, y, x
