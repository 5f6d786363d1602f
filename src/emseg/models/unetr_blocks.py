"""Parts of the anisotropic UNETR: convolutions with instance norms, and a head of affinities."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emseg.models.residual import GroupNorm, same_convolution

# Blocks that all channels share.
SHARED = 2
# Initial factors of z, y, x: affinities across sections are less certain.
FIRST_BIAS = (-0.2, 0.0, 0.0)
IN_PLANE, ACROSS = (1, 3, 3), (3, 1, 1)


def instance_norm(channels: int) -> GroupNorm:
    """A norm of each channel by itself, with the parameters of an affine instance norm."""
    return GroupNorm(channels, channels)


def dropped_channels(dropout: float) -> nn.Module:
    """Dropout of whole channels, or an identity, so that later layers have the same index."""
    return nn.Dropout3d(dropout) if dropout else nn.Identity()


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 x 3, plus the input, or its projection if widths differ."""

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv3d(before, after, 3, padding=1, bias=False),
            instance_norm(after),
            nn.GELU(),
            dropped_channels(dropout),
            nn.Conv3d(after, after, 3, padding=1, bias=False),
            instance_norm(after),
        )
        self.residual: nn.Module = nn.Identity()
        if before != after:
            project = nn.Conv3d(before, after, 1, bias=False)
            self.residual = nn.Sequential(project, instance_norm(after))

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x) + self.residual(x))


class TokenUp(nn.Module):
    """Tokens as a volume `(N, C, Z, Y, X)`, narrowed, then doubled along all axes `steps` times."""

    def __init__(self, before: int, after: int, steps: int, dropout: float) -> None:
        super().__init__()
        project = nn.Conv3d(before, after, 1, bias=False)
        layers = [project, instance_norm(after), nn.GELU()]
        for _ in range(steps):
            double = nn.ConvTranspose3d(after, after, 2, stride=2, bias=False)
            block = ResidualBlock(after, after, dropout)
            layers += [double, instance_norm(after), nn.GELU(), block]
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x)
        return result


class UpConcat(nn.Module):
    """Coarse features doubled along all axes, concatenated with the skip, then a residual block.

    If the doubled features are not as large as the skip, they are interpolated trilinearly.
    """

    def __init__(self, coarse: int, fine: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(coarse, fine, 2, stride=2, bias=False)
        self.conv = ResidualBlock(2 * fine, fine, dropout)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        if x.shape[2:] != skip.shape[2:]:
            x = F.interpolate(x, size=skip.shape[2:], mode="trilinear", align_corners=False)
        result: Tensor = self.conv(torch.cat([x, skip], dim=1))
        return result


class EMHead(nn.Module):
    """Logits `(N, 3, Z, Y, X)` of affinities along z, y, x from features `(N, width, Z, Y, X)`.

    Sections are thick: z is treated separately from y and x. Each channel has its own learned
    factor and shift at the end.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.channel_bias = nn.Parameter(torch.tensor(FIRST_BIAS).view(1, 3, 1, 1, 1))
        self.channel_scale = nn.Parameter(torch.ones(1, 3, 1, 1, 1))
        self.shared = nn.Sequential(*[_FlatBlock(width, dropout) for _ in range(SHARED)])
        self.z_refine = nn.Sequential(
            same_convolution(width, width, ACROSS), instance_norm(width), nn.GELU()
        )
        self.xy_refine = nn.Sequential(
            same_convolution(width, width, IN_PLANE), instance_norm(width), nn.GELU()
        )
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
            same_convolution(width, width, IN_PLANE),
            instance_norm(width),
            nn.GELU(),
            dropped_channels(dropout),
            same_convolution(width, width, ACROSS),
            instance_norm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x) + x)
