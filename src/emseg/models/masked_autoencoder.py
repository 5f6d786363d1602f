"""Masked image modelling of volumes, as in dbMiM (Chen et al. 2023, IJCAI) and SimMIM."""

import torch
from torch import Tensor, nn

from emseg.bounds import Positive, checked
from emseg.errors import UserError
from emseg.models.stride import Axes
from emseg.models.vit import TOKEN_DEVIATION, Dropout, ViTEncoder, learned_token


class MaskedAutoencoder(ViTEncoder):
    """The images `(N, in_channels, *volume_size)`, predicted from their visible patches.

    Called with images and a mask `(N, *grid)`, bool, that is true where a patch is hidden; grid is
    `volume_size` / `patch_size`. Each hidden patch is replaced by the same learned token, which the
    encoder processes with the others (SimMIM, Xie et al. 2022); two layers then make the voxels of
    all tokens, hidden and visible.

    Args:
        volume_size, patch_size, embed_dim, depth, num_heads, dropout: see `ViTEncoder`.
        decoder_dim: width between the two layers.

    Raises:
        UserError: sizes do not fit each other; in a call, images of another size or a mask of
            another grid.
    """

    @checked
    def __init__(
        self,
        in_channels: int,
        *,
        volume_size: Axes = (32, 160, 160),
        patch_size: Axes = (4, 16, 16),
        embed_dim: Positive = 192,
        depth: Positive = 6,
        num_heads: Positive = 6,
        decoder_dim: Positive = 192,
        dropout: Dropout = 0.0,
    ) -> None:
        super().__init__(
            in_channels,
            volume_size=volume_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            dropout=dropout,
        )
        self.mask_token = learned_token(1, embed_dim)
        z, y, x = self.patch_size
        self.decoder = nn.Sequential(
            nn.Linear(embed_dim, decoder_dim),
            nn.GELU(),
            nn.Linear(decoder_dim, in_channels * z * y * x),
        )
        self.apply(_initialise)

    def forward(self, image: Tensor, token_mask: Tensor) -> Tensor:
        if token_mask.shape != (len(image), *self.grid):
            raise UserError(
                f"the mask has the shape {list(token_mask.shape)}, the tokens of the images "
                f"{[len(image), *self.grid]}"
            )
        tokens = self._tokens(image)
        hidden = token_mask.flatten(1).unsqueeze(-1)
        tokens = torch.where(hidden, self.mask_token.to(tokens.dtype), tokens)
        patches = self.decoder(self.norm(self._states(tokens)[-1]))
        return unpatchify(patches, self.grid, self.patch_size)


def unpatchify(patches: Tensor, grid: Axes, patch_size: Axes) -> Tensor:
    """Volumes `(N, C, Z, Y, X)` from patches `(N, tokens, C * z * y * x)`, channels slowest.

    There are `grid` tokens along z, y, x, in this order, each a patch of `patch_size`.
    """
    split = patches.unflatten(2, (-1, *patch_size)).unflatten(1, grid)
    whole = split.permute(0, 4, 1, 5, 2, 6, 3, 7)  # channel, then grid and patch of each axis
    return whole.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=TOKEN_DEVIATION)
        nn.init.zeros_(module.bias)
