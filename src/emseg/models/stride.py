"""The sizes that a network can take."""

from collections.abc import Sequence

from torch import nn

from emseg.errors import UserError


def check_input(
    size: Sequence[int], net: nn.Module, *, key: str = "data.dataloader.patch_size"
) -> None:
    """Nothing, where the network takes images of this size (voxels).

    That is its `volume_size` alone where it has one, multiples of its `stride` where it has that;
    another size is a `UserError` that names `key`, where it was set.
    """
    fixed, stride = getattr(net, "volume_size", None), getattr(net, "stride", None)
    if fixed is not None and tuple(size) != tuple(fixed):
        raise UserError(
            f"{key} {list(size)} must be model.volume_size {list(fixed)}: the network takes images "
            "of that size alone"
        )
    if stride is not None:
        check_patch(size, stride, key=key)


def check_patch(
    patch_size: Sequence[int], stride: Sequence[int], *, key: str = "data.dataloader.patch_size"
) -> None:
    """Nothing, where every axis of the patch (voxels) is a multiple of the network's stride.

    A `UserError` names the nearest sizes where it is not, and `key`, where the patch was set.
    """
    if any(size % step for size, step in zip(patch_size, stride, strict=True)):
        below = [
            max(step, size - size % step) for size, step in zip(patch_size, stride, strict=True)
        ]
        above = [size + -size % step for size, step in zip(patch_size, stride, strict=True)]
        advice = f"{below}" if below == above else f"{below} or {above}"
        raise UserError(
            f"{key} {list(patch_size)} is not divisible by the network's "
            f"stride {list(stride)}; nearest: {advice}"
        )
