"""The vision transformer of volumes (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

from collections.abc import Sequence
from math import prod
from typing import Annotated

import torch
from torch import Tensor, nn

from emseg.bounds import Rule
from emseg.errors import UserError
from emseg.models.stride import Axes

# Of layers, not 1.
Dropout = Annotated[float, Rule("0 or more, below 1", lambda share: 0 <= share < 1)]

# Initial standard deviation of learned positions and tokens.
TOKEN_DEVIATION = 0.02


class ViTEncoder(nn.Module):
    """The common part of networks on the tokens of an image `(N, in_channels, *volume_size)`.

    Positions are learned. Blocks normalise before attention and before the two layers after it;
    there is no class token. Names and shapes in the state are those of dbMiM.

    Args:
        volume_size: voxels along z, y, x, multiples of `patch_size`; other images raise UserError.
        patch_size: voxels of the patch that a token stands for; an image has `grid` of them, in the
            order of z, y, x.
        embed_dim: width of a token, a multiple of `num_heads`.
        depth: number of blocks.
        num_heads: of attention.
        dropout: of the two layers, not of attention; 0 or more, below 1.

    Raises:
        UserError: sizes do not fit each other.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        volume_size: Axes,
        patch_size: Axes,
        embed_dim: int,
        depth: int,
        num_heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        _check(volume_size, patch_size, embed_dim, num_heads)
        self.volume_size = volume_size
        self.patch_size = patch_size
        self.stride = self.volume_size  # for code that only knows `stride`
        self.num_heads = num_heads
        self.grid = grid_of(self.volume_size, self.patch_size)
        self.pos_embed = learned_token(prod(self.grid), embed_dim)
        kernel = self.patch_size
        conv = nn.Conv3d(in_channels, embed_dim, kernel, stride=kernel)
        self.patch_embed = nn.ModuleDict({"proj": conv})
        self.encoder_blocks = nn.ModuleList(
            [_Block(embed_dim, num_heads, dropout) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(embed_dim)

    def _tokens(self, image: Tensor) -> Tensor:
        """Tokens (N, n, C) before their positions are added."""
        if tuple(image.shape[2:]) != tuple(self.volume_size):
            raise UserError(
                f"the network takes images of model.volume_size {list(self.volume_size)} alone, "
                f"not {list(image.shape[2:])}: data.dataloader.patch_size and "
                "inference.window.window_size must be the same"
            )
        tokens: Tensor = self.patch_embed["proj"](image)
        return tokens.flatten(2).transpose(1, 2)

    def _states(self, tokens: Tensor) -> list[Tensor]:
        """The output of each block, first to last, for tokens (N, n, C) plus positions."""
        states = [tokens + self.pos_embed]
        for block in self.encoder_blocks:
            states.append(block(states[-1]))
        return states[1:]


def grid_of(volume_size: Sequence[int], patch_size: Sequence[int]) -> Axes:
    """How many patches lie along each axis of a volume."""
    z, y, x = (size // step for size, step in zip(volume_size, patch_size, strict=True))
    return z, y, x


def learned_token(count: int, embed_dim: int) -> nn.Parameter:
    """A parameter `(1, count, embed_dim)` of small random numbers."""
    values = torch.empty(1, count, embed_dim)
    return nn.Parameter(nn.init.trunc_normal_(values, std=TOKEN_DEVIATION))


class _Block(nn.Module):
    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


def _check(volume_size: Axes, patch_size: Axes, embed_dim: int, num_heads: int) -> None:
    if any(size % step for size, step in zip(volume_size, patch_size, strict=True)):
        raise UserError(
            f"model.volume_size is {list(volume_size)}; it must be a multiple of "
            f"model.patch_size {list(patch_size)} on every axis"
        )
    if embed_dim % num_heads:
        raise UserError(
            f"model.embed_dim is {embed_dim}; it must be a multiple of model.num_heads {num_heads}"
        )
