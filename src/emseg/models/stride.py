"""The sizes that a network can take."""

from collections.abc import Sequence

from emseg.errors import UserError


def check_patch(
    patch_size: Sequence[int], stride: Sequence[int], *, key: str = "data.dataloader.patch_size"
) -> None:
    """Nothing, where every axis of the patch (voxels) is a multiple of the network's stride.

    A `UserError` names the nearest sizes where it is not, and `key`, where the patch was set.
    """
    if any(size % step for size, step in zip(patch_size, stride, strict=True)):
        below = [size - size % step for size, step in zip(patch_size, stride, strict=True)]
        above = [size + -size % step for size, step in zip(patch_size, stride, strict=True)]
        raise UserError(
            f"{key} {list(patch_size)} is not divisible by the network's "
            f"stride {list(stride)}; nearest: {below} or {above}"
        )
