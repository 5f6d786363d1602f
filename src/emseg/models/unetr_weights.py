"""The weights of a pretrained masked autoencoder with which a UNETR starts."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from emseg.errors import UserError
from emseg.models.pretrained import encoder_of, parts_of
from emseg.models.vit import grid_of

# The parts that both networks have, and those that only the pretrained one has.
ENCODER = ("pos_embed", "patch_embed", "encoder_blocks", "norm")
PRETRAINING = ("mask_token", "decoder")


def pretrained_encoder(
    weights: Mapping[str, Tensor],
    saved_model: Mapping[str, Any],
    *,
    own_grid: Sequence[int],
    num_heads: int,
) -> dict[str, Tensor] | None:
    """The encoder's weights of a masked autoencoder; None if `weights` are of something else.

    `saved_model` are the model's settings in the file: `volume_size` and `patch_size` give the grid
    of its positions, which are interpolated to `own_grid`.

    Raises:
        UserError: a part of the encoder is missing, the grid is unknown and has not our size, or
            the number of heads differs.
    """
    parts = parts_of(weights)
    if "mask_token" not in parts and not parts <= {*ENCODER, *PRETRAINING}:
        return None
    taken = encoder_of(weights, ENCODER)
    heads = saved_model.get("num_heads", num_heads)
    if heads != num_heads:
        raise UserError(f"model.num_heads is {num_heads}, the pretrained weights have {heads}")
    positions = _fitted(taken["pos_embed"], _saved_grid(saved_model), tuple(own_grid))
    return taken | {"pos_embed": positions}


def resampled_positions(positions: Tensor, grid: Sequence[int], new_grid: Sequence[int]) -> Tensor:
    """Positions `(1, tokens, C)` of a grid (z, y, x), interpolated trilinearly to another one."""
    volume = positions.float().transpose(1, 2).unflatten(2, tuple(grid))
    moved = interpolate(volume, size=tuple(new_grid), mode="trilinear", align_corners=False)
    return moved.flatten(2).transpose(1, 2).to(positions.dtype).contiguous()


def _fitted(positions: Tensor, grid: tuple[int, ...] | None, own_grid: tuple[int, ...]) -> Tensor:
    tokens = positions.shape[1]
    if grid is None:
        if tokens == prod(own_grid):
            return positions
        raise UserError(
            f"the pretrained weights have {tokens} positions and do not say of which grid, "
            f"model.volume_size by model.patch_size has {prod(own_grid)}"
        )
    if prod(grid) != tokens:
        raise UserError(f"the pretrained weights have {tokens} positions for a grid of {grid}")
    return positions if grid == own_grid else resampled_positions(positions, grid, own_grid)


def _saved_grid(saved_model: Mapping[str, Any]) -> tuple[int, ...] | None:
    volume, patch = saved_model.get("volume_size"), saved_model.get("patch_size")
    if volume is None or patch is None:
        return None
    if not all(isinstance(s, Sequence) and len(s) == 3 and min(s) > 0 for s in (volume, patch)):
        raise UserError(f"the pretrained weights are for volumes of {volume}, patches of {patch}")
    return grid_of(volume, patch)
