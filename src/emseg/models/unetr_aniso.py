"""UNETR for anisotropic voxels, as in dbMiM (Chen et al. 2023, IJCAI)."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from emseg.bounds import Positive, checked
from emseg.errors import UserError
from emseg.models.stride import Axes
from emseg.models.unetr_blocks import EMHead, ResidualBlock, TokenUp, UpConcat
from emseg.models.unetr_weights import pretrained_encoder
from emseg.models.vit import Dropout, ViTEncoder


class UNETRAniso(ViTEncoder):
    """Logits `(N, out_channels, *volume_size)` of images `(N, in_channels, *volume_size)`.

    A vision transformer and a U-Net's decoder on the outputs of its blocks and on the image itself
    (UNETR, Hatamizadeh et al. 2022). Tokens, of (n, m, m) voxels, are doubled along all axes until
    z is m / n times too fine; one convolution without a norm then reduces z. Four doublings make
    voxels of patches of (n, 16, 16); other patches are interpolated in between. Names, shapes and
    numbers of parameters are those of dbMiM; if m = n, the convolution that reduces z is left out.

    Args:
        volume_size, embed_dim, depth, num_heads: see `ViTEncoder`.
        patch_size: (n, m, m) voxels, m a multiple of n.
        feature_size: channels of the decoder at the image's size.
        dropout: of the transformer's layers and of the channels between convolutions.
        head: makes the logits: `plain`, one convolution, or `em`, only for the three affinities
            along z, y, x (`EMHead`).

    Raises:
        UserError: sizes do not fit each other, or `head` the channels; in a call, images of another
            size than `volume_size`.
    """

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        volume_size: Axes = (32, 160, 160),
        patch_size: Axes = (4, 16, 16),
        embed_dim: Positive = 192,
        depth: Positive = 6,
        num_heads: Positive = 6,
        feature_size: Positive = 32,
        dropout: Dropout = 0.05,
        head: Literal["plain", "em"] = "plain",
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
        if head == "em" and out_channels != 3:
            raise UserError(
                f"model.head=em makes affinities along z, y, x, the target has {out_channels} "
                "channels: choose head=plain, or a target of three channels"
            )
        squeeze = _squeeze(self.patch_size)
        # The blocks whose tokens the decoder uses, from the finest level to the coarsest.
        self.skips = (depth // 4, depth // 2, 3 * depth // 4)
        f = feature_size
        self.encoder1 = ResidualBlock(in_channels, f, dropout)
        self.encoder2 = TokenUp(embed_dim, 2 * f, 3, dropout)
        self.encoder3 = TokenUp(embed_dim, 4 * f, 2, dropout)
        self.encoder4 = TokenUp(embed_dim, 8 * f, 1, dropout)
        self.decoder5 = UpConcat(embed_dim, 8 * f, dropout)
        self.decoder4 = UpConcat(8 * f, 4 * f, dropout)
        self.decoder3 = UpConcat(4 * f, 2 * f, dropout)
        self.decoder2 = UpConcat(2 * f, f, dropout)
        self.dtrans: nn.Module = nn.Identity()
        if squeeze > 1:
            stride = (squeeze, 1, 1)
            self.dtrans = nn.Conv3d(2 * f, 2 * f, 3, stride=stride, padding=1, bias=False)
        self.head = EMHead(f, dropout) if head == "em" else nn.Conv3d(f, out_channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        states = self._states(self._tokens(image))
        fine, middle, coarse = (self._volume(states[block]) for block in self.skips)
        x = self._volume(self.norm(states[-1]))
        x = self.decoder5(x, self.encoder4(coarse))
        x = self.decoder4(x, self.encoder3(middle))
        x = self.decoder3(x, self.encoder2(fine))
        x = self.decoder2(self.dtrans(x), self.encoder1(image))
        logits: Tensor = self.head(x)
        return logits

    def encoder_weights(
        self, weights: Mapping[str, Tensor], saved_model: Mapping[str, Any]
    ) -> dict[str, Tensor] | None:
        """The weights of a masked autoencoder that this network has too; `pretrained_encoder`."""
        return pretrained_encoder(
            weights, saved_model, own_grid=self.grid, num_heads=self.num_heads
        )

    def _volume(self, tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, self.grid)


def _squeeze(patch_size: tuple[int, int, int]) -> int:
    """How many times finer than the image z is when y and x are half as fine."""
    z, y, x = patch_size
    if y != x or y % z:
        raise UserError(
            f"model.patch_size is {list(patch_size)}; it must be as long along y as along x, and "
            "a whole number of times as long as along z"
        )
    return y // z
