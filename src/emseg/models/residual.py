"""Residual blocks of convolutions, each after a norm and an activation."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from emseg.models.group_norm import GroupNorm

Norm = Literal["group", "batch", "instance", "none"]
Activation = Literal["elu", "relu", "silu"]
Kernel = tuple[int, int, int]
# Makes the layers before a convolution with this number of input channels.
Preactivation = Callable[[int], nn.Module]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "silu": nn.SiLU}


class ConvBlock(nn.Module):
    """Four preactivated convolutions, with a residual connection around the middle two."""

    def __init__(self, narrow: int, wide: int, kernel: Kernel, before: Preactivation) -> None:
        super().__init__()
        self.enter = _convolution(narrow, wide, kernel, before)
        self.residual = _residual(wide, kernel, before)
        self.leave = _convolution(wide, wide, kernel, before)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.leave(x + self.residual(x))


class ResidualHead(nn.Module):
    """The logits of one head: a residual block and a convolution."""

    def __init__(self, width: int, channels: int, kernel: Kernel, before: Preactivation) -> None:
        super().__init__()
        self.residual = _residual(width, kernel, before)
        self.leave = nn.Sequential(before(width), nn.Conv3d(width, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(x + self.residual(x))


def _residual(width: int, kernel: Kernel, before: Preactivation) -> nn.Sequential:
    return nn.Sequential(*(_convolution(width, width, kernel, before) for _ in range(2)))


def _convolution(narrow: int, wide: int, kernel: Kernel, before: Preactivation) -> nn.Sequential:
    return nn.Sequential(before(narrow), same_convolution(narrow, wide, kernel))


def same_convolution(before: int, after: int, kernel: Kernel) -> nn.Conv3d:
    """A convolution without bias whose output has the size of its input; the kernel is odd."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(before, after, kernel, padding=padding, bias=False)


def preactivation(
    channels: int, norm: Norm, num_groups: int, activation: Activation
) -> nn.Sequential:
    """A norm and an activation; `num_groups` is lowered if it does not divide the channels."""
    return nn.Sequential(
        _normalisation(channels, norm, num_groups),
        # Not in place: without a norm, which makes a copy, it would change its input.
        _ACTIVATIONS[activation](inplace=norm != "none"),
    )


def _normalisation(channels: int, norm: Norm, num_groups: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm3d(channels)
    if norm == "instance":
        # The same function as an affine instance norm, which has no channels-last kernel.
        return GroupNorm(channels, channels)
    if norm == "group":
        groups = next(g for g in range(min(num_groups, channels), 0, -1) if channels % g == 0)
        return GroupNorm(groups, channels)
    return nn.Identity()
