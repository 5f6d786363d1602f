"""The outputs of a network."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emseg.errors import UserError


def levels_of(outputs: Tensor | list[Tensor]) -> list[Tensor]:
    """The outputs of a network, `(N, C, Z, Y, X)` for each level, finest first.

    Args:
        outputs: of one level, or of several: a list, or all of one size in one tensor
            `(N, levels, C, Z, Y, X)`, as MONAI's DynUNet makes them.
    """
    if isinstance(outputs, Tensor) and outputs.ndim == 6:
        return list(outputs.unbind(1))
    return outputs if isinstance(outputs, list) else [outputs]


def require_outputs(
    net: nn.Module, patch_size: Sequence[int], *, in_channels: int, channels: int
) -> None:
    """Checks that `net` returns logits with so many channels for a patch.

    Only shapes are computed; networks that need values for that are not checked.

    Raises:
        UserError: it fails, or its output has other channels or voxels.
    """
    name, patch = type(net).__name__, [*patch_size]
    try:
        with torch.no_grad():
            image = torch.zeros(2, in_channels, *patch, device="meta")
            levels = levels_of(copy.deepcopy(net).to("meta")(image))
    except NotImplementedError:
        return
    # The network may be the user's own.
    except Exception as error:
        raise UserError(
            f"model: {name} fails on patches of {patch}: {type(error).__name__}: {error}"
        ) from error
    for level in levels:
        shape = list(level.shape) if isinstance(level, Tensor) else type(level).__name__
        if not isinstance(level, Tensor) or shape[:2] != [2, channels] or len(shape) != 5:
            raise UserError(f"model: {name} makes {shape} of 2 patches, not {channels} channels")
    if list(levels[0].shape[2:]) != patch:
        made = list(levels[0].shape[2:])
        raise UserError(f"model: {name} makes {made} of patches of {patch}, not as many voxels")
