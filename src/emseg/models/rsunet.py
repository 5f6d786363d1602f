"""The residual symmetric U-Net of Lee et al. 2017 (arXiv 1706.00120)."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from emseg.bounds import Positive, Rule, checked, within
from emseg.models.head_parts import Heads, SeparateHeads
from emseg.models.residual import (
    Activation,
    ConvBlock,
    Norm,
    ResidualHead,
    logits_layer,
    preactivation,
)
from emseg.models.stride import Axes, Widths, stride_of_levels

Odd = Annotated[int, Rule("an odd number from 1 up", lambda size: size > 0 and size % 2 == 1)]


class RSUNet(nn.Module):
    """Logits `(N, out_channels, Z, Y, X)` of images `(N, in_channels, Z, Y, X)` of the same size.

    An encoder and a decoder of residual blocks; every axis of the input must be a multiple of
    `stride`. The encoder's levels are added to the decoder's. All convolutions but the last are
    without bias.

    Args:
        heads: {name: (first, stop) of its channels in order}, for `separate_heads`.
        width: channels of each level, finest first, two or more.
        down_factors: (z, y, x); entry l is between level l and level l + 1.
        depth_2d: how many levels, from the finest, have kernels of `kernel_2d`, others 3 x 3 x 3.
        kernel_2d: odd sizes along z, y, x.
        num_groups: for norm `group`; lowered if it does not divide a level's width.
        deep_supervision: with two or more decoder levels (three widths) a training forward returns
            a list of logits, finest first: those above, then one of each coarser decoder level at
            that level's resolution.
        stem: the first layer: `conv`, a plain convolution, or `preactivated`, with a norm and an
            activation before it, as in PyTorch Connectomics: needed for its weights and parameter
            counts, but the output then does not depend on the absolute intensity.
        stem_factor: (z, y, x), how much coarser the finest level is than the image: the stem is a
            strided convolution, and a transposed one makes the logits at full resolution, so that
            most of the work is on fewer voxels.
        separate_heads: each of the `heads` has its own residual block and convolution, and its name
            in the state's keys; else one convolution makes all output channels.

    Raises:
        UserError: `width`, `down_factors` and `depth_2d` do not fit each other; `separate_heads`
            with fewer than two heads or with `deep_supervision`.
    """

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        heads: Heads | None = None,
        width: Widths = (18, 36, 48, 64, 80),
        down_factors: Sequence[Axes] = ((1, 2, 2),) * 4,
        depth_2d: Annotated[int, within(0)] = 1,
        kernel_2d: tuple[Odd, Odd, Odd] = (1, 3, 3),
        norm: Norm = "group",
        num_groups: Positive = 4,
        activation: Activation = "elu",
        deep_supervision: bool = False,
        stem: Literal["conv", "preactivated"] = "conv",
        stem_factor: Axes = (1, 1, 1),
        separate_heads: bool = False,
    ) -> None:
        super().__init__()
        z, y, x = stride_of_levels(width, down_factors, depth_2d=depth_2d)
        self.stride = (z * stem_factor[0], y * stem_factor[1], x * stem_factor[2])
        kernels = [kernel_2d] * depth_2d + [(3, 3, 3)] * (len(width) - depth_2d)

        def before(channels: int) -> nn.Module:
            return preactivation(channels, norm, num_groups, activation)

        def block(narrow: int, wide: int, level: int) -> ConvBlock:
            return ConvBlock(narrow, wide, kernels[level], before)

        first = block(in_channels, width[0], 0)
        if stem == "conv":
            first.enter[0] = nn.Identity()
        first.enter[1] = _stem(in_channels, width[0], kernels[0], stem_factor)
        self.encoder = nn.ModuleList([first])
        self.decoder = nn.ModuleList()
        self.pools = nn.ModuleList()
        self.joins = nn.ModuleList()
        self.heads = nn.ModuleList()
        for level, factor in enumerate(down_factors):
            narrow, wide = width[level], width[level + 1]
            self.pools.append(nn.MaxPool3d(factor))
            self.encoder.append(block(narrow, wide, level + 1))
            self.joins.append(_UpAdd(wide, narrow))
            self.decoder.append(block(narrow, narrow, level))
            if level == 0 and separate_heads:
                self.heads.append(
                    SeparateHeads(
                        heads,
                        lambda own: ResidualHead(width[0], own, kernels[0], before, stem_factor),
                        deep_supervision=deep_supervision,
                    )
                )
            elif level == 0 or deep_supervision:
                factor = (1, 1, 1) if level else stem_factor
                head = logits_layer(narrow, out_channels, factor)
                self.heads.append(nn.Sequential(before(narrow), head))
        _initialise(self)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        skips = [self.encoder[0](image)]
        for pool, encode in zip(self.pools, self.encoder[1:], strict=True):
            skips.append(encode(pool(skips[-1])))
        x = skips[-1]
        outputs: list[Tensor] = []
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](self.joins[level](x, skips[level]))
            if level == 0 or (self.training and level < len(self.heads)):
                outputs.insert(0, self.heads[level](x))
        return outputs if self.training and len(self.heads) > 1 else outputs[0]


def _stem(before: int, after: int, kernel: Axes, factor: Axes) -> nn.Conv3d:
    """A convolution whose output is `factor` times coarser, with the kernel that much larger."""
    padding = [size // 2 for size in kernel]
    size = [step + 2 * pad for step, pad in zip(factor, padding, strict=True)]
    return nn.Conv3d(before, after, tuple(size), factor, tuple(padding), bias=False)  # type: ignore[arg-type]


class _UpAdd(nn.Module):
    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.project = nn.Conv3d(wide, narrow, 1, bias=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # Both are linear, one over channels and one over voxels, so their order does not matter;
        # projecting first means fewer channels to interpolate.
        x = self.project(x)
        return skip + F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)


def _initialise(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
