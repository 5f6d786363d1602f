"""A head for affinities of thick sections, which treats z separately from y and x."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emseg.models.unetr_blocks import dropped_channels, instance_norm

# Blocks that all channels share.
SHARED = 2
# Initial factors of z, y, x: affinities across sections are less certain.
FIRST_BIAS = (-0.2, 0.0, 0.0)
IN_PLANE, ACROSS = (1, 3, 3), (3, 1, 1)


class EMHead(nn.Module):
    """Logits `(N, 3, Z, Y, X)` of affinities along z, y, x from features `(N, width, Z, Y, X)`.

    Each channel has its own learned factor and shift at the end.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.channel_bias = nn.Parameter(torch.tensor(FIRST_BIAS).view(1, 3, 1, 1, 1))
        self.channel_scale = nn.Parameter(torch.ones(1, 3, 1, 1, 1))
        self.shared = nn.Sequential(*[_FlatBlock(width, dropout) for _ in range(SHARED)])
        self.z_refine = nn.Sequential(*_convolution(width, ACROSS), nn.GELU())
        self.xy_refine = nn.Sequential(*_convolution(width, IN_PLANE), nn.GELU())
        self.z_head = nn.Conv3d(width, 1, 1)
        self.xy_head = nn.Conv3d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(x)
        z, xy = self.z_head(self.z_refine(x)), self.xy_head(self.xy_refine(x))
        return torch.cat([z, xy], dim=1) * self.channel_scale + self.channel_bias


class _FlatBlock(nn.Module):
    """A convolution within the section and one across it, with a residual connection."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *_convolution(width, IN_PLANE),
            nn.GELU(),
            dropped_channels(dropout),
            *_convolution(width, ACROSS),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x) + x)


def _convolution(width: int, kernel: tuple[int, int, int]) -> tuple[nn.Module, nn.Module]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(width, width, kernel, padding=padding, bias=False)
    return conv, instance_norm(width)
