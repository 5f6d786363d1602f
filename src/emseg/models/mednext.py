"""MedNeXt, a U-Net of ConvNeXt blocks (Roy et al. 2023, arXiv 2303.09975)."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from emseg.models.head_parts import Heads, SeparateHeads
from emseg.models.mednext_weights import LEVELS, grown_kernels, renamed
from emseg.models.residual import GroupNorm

Size = Literal["S", "B", "M", "L"]
# For encoder levels 0 to 3, bottleneck, decoder levels 3 to 0: how many times wider blocks are
# inside, and how many blocks there are.
EXPANSION = {
    "S": (2,) * 9,
    "B": (2, 3, 4, 4, 4, 4, 4, 3, 2),
    "M": (2, 3, 4, 4, 4, 4, 4, 3, 2),
    "L": (3, 4, 8, 8, 8, 8, 8, 4, 3),
}
BLOCKS = {
    "S": (2,) * 9,
    "B": (2,) * 9,
    "M": (3, 4, 4, 4, 4, 4, 4, 4, 3),
    "L": (3, 4, 8, 8, 8, 8, 8, 4, 3),
}


class MedNeXt(nn.Module):
    """Logits `(N, out_channels, Z, Y, X)` of images `(N, in_channels, Z, Y, X)` of the same size.

    Five levels, each half as large and twice as wide as the one above; every axis of the input must
    be a multiple of `stride`. The numbers of parameters are the published ones, minus a dummy one.

    Args:
        heads: {name: (first, stop) of its channels in order}, for `separate_heads`.
        size, kernel: those of the paper; the kernel is that of the depthwise convolutions.
        width: channels at the top.
        grn: global response normalisation in every block but the first down.
        deep_supervision: a training forward returns a list of logits, finest first, one of each
            level.
        checkpointing: compute activations within blocks again in the backward pass: less memory,
            more time, the same result.
        separate_heads: each of the `heads` has its own block of half the width and convolution at
            the end, and its name in the state's keys (PyTorch Connectomics).

    Raises:
        UserError: `separate_heads` with fewer than two heads or with `deep_supervision`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        heads: Heads | None = None,
        size: Size = "S",
        kernel: Literal[3, 5] = 3,
        width: int = 32,
        grn: bool = False,
        deep_supervision: bool = False,
        checkpointing: bool = False,
        separate_heads: bool = False,
    ) -> None:
        super().__init__()
        ratios, counts = EXPANSION[size], BLOCKS[size]
        wide = [width * 2**level for level in range(LEVELS + 1)]
        self.stride = (2**LEVELS,) * 3
        self.checkpointing = checkpointing

        def stage(level: int, place: int) -> nn.Sequential:
            blocks = [_Block(wide[level], ratios[place], kernel, grn) for _ in range(counts[place])]
            return nn.Sequential(*blocks)

        levels = range(LEVELS)
        self.stem = nn.Conv3d(in_channels, width, 1)
        self.encoder = nn.ModuleList([stage(level, level) for level in levels])
        # A change of level has the ratio of the stage after it.
        self.down = nn.ModuleList(
            [_Down(wide[n], ratios[n + 1], kernel, grn and n > 0) for n in levels]
        )
        self.bottleneck = stage(LEVELS, LEVELS)
        self.up = nn.ModuleList([_Up(wide[n + 1], ratios[8 - n], kernel, grn) for n in levels])
        self.decoder = nn.ModuleList([stage(level, 8 - level) for level in levels])
        supervised = LEVELS + 1 if deep_supervision else 1
        self.out = nn.ModuleList(
            [nn.ConvTranspose3d(wide[n], out_channels, 1) for n in range(supervised)]
        )
        if separate_heads:
            narrow = max(width // 2, 1)
            self.out[0] = SeparateHeads(
                heads,
                lambda own: nn.Sequential(
                    nn.Conv3d(width, narrow, 1),
                    _Block(narrow, 2, kernel, grn),
                    nn.Conv3d(narrow, own, 1),
                ),
                deep_supervision=deep_supervision,
            )

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        x, skips = self.stem(image), []
        for encode, down in zip(self.encoder, self.down, strict=True):
            skips.append(self._run(encode, x))
            x = self._run(down, skips[-1])
        x = self._run(self.bottleneck, x)
        coarser = self.training and len(self.out) > 1
        outputs = [self.out[LEVELS](x)] if coarser else []
        for level in reversed(range(LEVELS)):
            x = skips[level] + self._run(self.up[level], x)
            x = self._run(self.decoder[level], x)
            if level == 0 or coarser:
                outputs.insert(0, self.out[level](x))
        return outputs if coarser else outputs[0]

    def adopted(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of another implementation, or of smaller kernels, converted for this network.

        See `mednext_weights.renamed` and `mednext_weights.grown_kernels`.
        """
        own = self.state_dict()
        ours = weights if weights.keys() <= own.keys() else renamed(weights)
        return grown_kernels(ours, own)

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpointing and self.training):
            result: Tensor = part(x)
            return result
        for block in part if isinstance(part, nn.Sequential) else [part]:
            x = checkpoint(block, x, use_reentrant=False)
        return x


class _Block(nn.Module):
    """Depthwise convolution, norm, and two pointwise ones, with a residual connection."""

    def __init__(self, channels: int, ratio: int, kernel: int, grn: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.inner = _Inner(channels, ratio, channels, grn)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.inner(self.conv1(x))
        return result


class _Down(nn.Module):
    def __init__(self, channels: int, ratio: int, kernel: int, grn: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(
            channels, channels, kernel, stride=2, padding=kernel // 2, groups=channels
        )
        self.inner = _Inner(channels, ratio, 2 * channels, grn)
        self.res_conv = nn.Conv3d(channels, 2 * channels, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.res_conv(x) + self.inner(self.conv1(x))
        return result


class _Up(nn.Module):
    def __init__(self, channels: int, ratio: int, kernel: int, grn: bool) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose3d(
            channels, channels, kernel, stride=2, padding=kernel // 2, groups=channels
        )
        self.inner = _Inner(channels, ratio, channels // 2, grn)
        self.res_conv = nn.ConvTranspose3d(channels, channels // 2, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # Both make 2 n - 1 voxels from n; the missing one is added before the first.
        grown: Tensor = self.res_conv(x) + self.inner(self.conv1(x))
        return nn.functional.pad(grown, (1, 0) * 3)


class _Inner(nn.Module):
    """Norm of each channel, a wider pointwise layer, and one of the output width."""

    def __init__(self, before: int, ratio: int, after: int, grn: bool) -> None:
        super().__init__()
        wider = ratio * before
        self.norm = GroupNorm(before, before)
        self.conv2 = nn.Conv3d(before, wider, 1)
        self.grn: Callable[[Tensor], Tensor] = _ResponseNorm(wider) if grn else nn.Identity()
        self.conv3 = nn.Conv3d(wider, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.conv2(self.norm(x)))
        result: Tensor = self.conv3(self.grn(x))
        return result


class _ResponseNorm(nn.Module):
    """Global response normalisation: channels compete by their norm over space."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=(2, 3, 4), keepdim=True)
        relative = norm / (norm.mean(1, keepdim=True) + 1e-6)
        return self.gamma * (x * relative) + self.beta + x
