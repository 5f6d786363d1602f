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
        below = [
            max(step, size - size % step) for size, step in zip(patch_size, stride, strict=True)
        ]
        above = [size + -size % step for size, step in zip(patch_size, stride, strict=True)]
        advice = f"{below}" if below == above else f"{below} or {above}"
        raise UserError(
            f"{key} {list(patch_size)} is not divisible by the network's "
            f"stride {list(stride)}; nearest: {advice}"
        )
