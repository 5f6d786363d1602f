"""The residual U-Net of Lee et al. 2017 (arXiv 1706.00120), compatible with SSNS-Net's weights."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from emseg.bounds import checked
from emseg.errors import UserError
from emseg.models.pretrained import encoder_of, parts_of
from emseg.models.residual import same_convolution
from emseg.models.stride import Widths

Merge = Literal["concat", "add", "none"]

POOL = (1, 2, 2)
FLAT = (1, 3, 3)
FACE = (1, 5, 5)  # kernel of the first and the last convolution
MOMENTUM = 0.001


class SuperhumanUNet(nn.Module):
    """Logits `(N, out_channels, Z, Y, X)` of images `(N, in_channels, Z, Y, X)` of the same size.

    y and x are halved from each level to the next, z never; y and x must be multiples of `stride`.

    Names, shapes and numbers of parameters are those of SSNS-Net (Huang et al. 2022) and its
    `UNet_PNI`, and so are batch norms and their momentum; the sigmoid is in loss and inference.

    Args:
        width: channels of each level, finest first, two or more.
        merge: how the encoder's level goes into the decoder's: its channels are concatenated
            (`concat`), added (`add`), or not used (`none`); the last is the network of the
            pretraining, whose encoder the two others can start from.
    """

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: Widths = (28, 36, 48, 64, 80),
        merge: Merge = "concat",
    ) -> None:
        super().__init__()
        self.merge, self.levels = merge, len(width) - 1
        self.stride = (1, 2**self.levels, 2**self.levels)
        self.embed_in = _face(in_channels, width[0])
        narrow = [width[0], *width[:-2]]
        for level, (before, after) in enumerate(zip(narrow, width[:-1], strict=True)):
            self.add_module(f"conv{level}", _Block(before, after))
        self.center = _Block(width[-2], width[-1])
        self.pool = nn.MaxPool3d(POOL)
        # From the coarsest level up: the order of their numbers.
        for number, level in enumerate(reversed(range(self.levels))):
            wide, own = width[level + 1], width[level]
            seen = 2 * own if merge == "concat" else own
            self.add_module(f"up{number}", _up(wide, own))
            self.add_module(f"cat{number}", nn.Sequential(_norm(seen), nn.ELU()))
            self.add_module(f"conv{self.levels + number}", _Block(seen, own))
        self.embed_out = _face(width[0], width[0])
        self.out_put = nn.Sequential(nn.Conv3d(width[0], out_channels, 1))
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = self.embed_in(image), []
        for level in range(self.levels):
            x = self.get_submodule(f"conv{level}")(x)
            skips.append(x)
            x = self.pool(x)
        x = self.center(x)
        for number in range(self.levels):
            x = self._merged(self.get_submodule(f"up{number}")(x), skips.pop())
            x = self.get_submodule(f"cat{number}")(x)
            x = self.get_submodule(f"conv{self.levels + number}")(x)
        logits: Tensor = self.out_put(self.embed_out(x))
        return logits

    def encoder_weights(
        self, weights: Mapping[str, Tensor], saved_model: Mapping[str, Any]
    ) -> dict[str, Tensor] | None:
        """The encoder's weights of a pretraining, with its batch norms' statistics.

        A pretraining has no skips and as many output as input channels, or only an encoder.

        Args:
            weights: by our names.
            saved_model: the model's settings in their file.

        Returns:
            None if they are of something else, or if `merge` is `none`.

        Raises:
            UserError: a part of the encoder is missing, or the number of levels differs.
        """
        if self.merge == "none":
            return None
        encoder = ("embed_in", *(f"conv{level}" for level in range(self.levels)), "center")
        parts = parts_of(weights)
        if not (_without_skips(weights, saved_model) or (parts and parts <= {*encoder})):
            return None
        taken = encoder_of(weights, encoder)
        levels = sum(part.startswith("up") for part in parts)
        if levels not in (0, self.levels):
            # A name of our encoder may then belong to the decoder of the other network.
            raise UserError(
                f"the pretrained weights have {levels + 1} levels, model.width has "
                f"{self.levels + 1}"
            )
        return taken

    def _merged(self, x: Tensor, skip: Tensor) -> Tensor:
        if self.merge == "concat":
            return torch.cat([x, skip], dim=1)
        return x + skip if self.merge == "add" else x


class _Block(nn.Module):
    """A flat convolution, and two cubic ones with a residual connection; norms come after sums."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.block1 = nn.Sequential(same_convolution(before, after, FLAT), _norm(after), nn.ELU())
        cubic = (3, 3, 3)
        self.block2 = nn.Sequential(
            same_convolution(after, after, cubic),
            _norm(after),
            nn.ELU(),
            same_convolution(after, after, cubic),
        )
        self.block3 = _norm(after)
        self.activation = nn.ELU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(x)
        result: Tensor = self.activation(self.block3(x + self.block2(x)))
        return result


def _face(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(before, after, FACE, padding=(0, 2, 2)), nn.ELU())


def _up(wide: int, narrow: int) -> nn.Sequential:
    spread = nn.ConvTranspose3d(wide, wide, POOL, stride=POOL, groups=wide)
    return nn.Sequential(spread, nn.Conv3d(wide, narrow, 1))


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, momentum=MOMENTUM)


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _without_skips(weights: Mapping[str, Tensor], saved_model: Mapping[str, Any]) -> bool:
    names = ("up0.1.weight", "cat0.0.weight", "embed_in.0.weight", "out_put.0.weight")
    if not {*names} <= weights.keys():
        return False
    if "merge" in saved_model:
        return bool(saved_model["merge"] == "none")
    up, seen, first, last = (weights[name].shape for name in names)
    # Networks with added skips have the same shapes, but not as many output as input channels.
    return up[:1] == seen[:1] and last[:1] == first[1:2]
