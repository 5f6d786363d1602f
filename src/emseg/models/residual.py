"""Residual blocks, and group norm in a form that is quick on a CPU."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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

    def __init__(
        self,
        width: int,
        channels: int,
        kernel: Kernel,
        before: Preactivation,
        factor: Kernel = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.residual = _residual(width, kernel, before)
        self.leave = nn.Sequential(before(width), logits_layer(width, channels, factor))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(x + self.residual(x))


def _residual(width: int, kernel: Kernel, before: Preactivation) -> nn.Sequential:
    return nn.Sequential(*(_convolution(width, width, kernel, before) for _ in range(2)))


def _convolution(narrow: int, wide: int, kernel: Kernel, before: Preactivation) -> nn.Sequential:
    return nn.Sequential(before(narrow), same_convolution(narrow, wide, kernel))


def logits_layer(width: int, channels: int, factor: Kernel) -> nn.Module:
    """Logits `factor` times finer than the input, each voxel by its own weights."""
    if factor == (1, 1, 1):
        return nn.Conv3d(width, channels, 1)
    return nn.ConvTranspose3d(width, channels, factor, factor)


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


class GroupNorm(nn.GroupNorm):
    """The same function of `(N, C, Z, Y, X)` and the same parameters as `torch.nn.GroupNorm`.

    For channels-last tensors on a CPU, the backward kernel of PyTorch (2.13) takes longer than the
    convolutions around it, and is replaced: 14 ms become 3 ms for 16 channels of 2 x 48^3 voxels
    in bfloat16 on two cores. With one channel, which has both memory orders, it even crashes.

    The forward kernel is PyTorch's. It computes the variance as the mean square minus the squared
    mean: in float32, a group whose mean is 100 times its standard deviation has an error of a few
    hundredths of that, and with a mean 1000 times as large the result is meaningless.
    """

    def forward(self, input: Tensor) -> Tensor:
        last = input.is_contiguous(memory_format=torch.channels_last_3d)
        if input.device.type == "cpu" and last:
            output: Tensor = _ChannelsLast.apply(
                input, self.weight, self.bias, self.num_groups, self.eps
            )
            return output
        return super().forward(input)


class _ChannelsLast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        n, c = x.shape[:2]
        output, mean, rstd = torch.native_group_norm(
            x, weight, bias, n, c, x[0, 0].numel(), groups, eps
        )
        ctx.save_for_backward(x, weight, mean, rstd)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        n, c = x.shape[:2]
        groups = mean.shape[1]
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        x_rows, grad_rows = _rows(x), _rows(grad)
        exact = torch.promote_types(x.dtype, torch.float32)
        # For each sample and channel: the sums of grad and of grad * x over the voxels.
        grad_sum = _sums(grad_rows, c, exact).view(n, groups, -1)
        product_sum = _sums(grad_rows * x_rows, c, exact).view(n, groups, -1)
        mean, rstd = (s.to(exact).unsqueeze(-1) for s in (mean, rstd))
        gamma = weight.to(exact).view(1, groups, -1)
        size = x[0].numel() // groups
        grad_all = (gamma * grad_sum).sum(-1, keepdim=True)
        product_all = (gamma * product_sum).sum(-1, keepdim=True)
        of_x = (grad_all * mean - product_all) * rstd**3 / size
        constant = -of_x * mean - grad_all * rstd / size
        tile = x_rows.shape[-1] // c

        def coefficient(value: Tensor) -> Tensor:
            row = value.expand(n, groups, c // groups).reshape(n, 1, c).to(x.dtype)
            return row.repeat(1, 1, tile)

        result = torch.addcmul(coefficient(constant), x_rows, coefficient(of_x))
        result.addcmul_(grad_rows, coefficient(gamma * rstd))
        grad_weight = ((product_sum - mean * grad_sum) * rstd).sum(0).flatten()
        grad_bias = grad_sum.sum(0).flatten()
        grad_x = result.view(n, *x.shape[2:], c).permute(0, 4, 1, 2, 3)
        return grad_x, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None


def _rows(x: Tensor) -> Tensor:
    # Rows of several voxels (all channels of each) make the inner loops long.
    n, c = x.shape[:2]
    voxels = x[0, 0].numel()
    tile = next(t for t in (64, 32, 16, 8, 4, 2, 1) if voxels % t == 0)
    return x.permute(0, 2, 3, 4, 1).reshape(n, voxels // tile, tile * c)


def _sums(rows: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    # Sums of bfloat16 are accumulated in float32 and rounded once a column; asking for a float32
    # result would convert the whole array first.
    return rows.sum(1).to(dtype).view(len(rows), -1, channels).sum(1)
