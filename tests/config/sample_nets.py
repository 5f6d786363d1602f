"""Networks that no training can use."""

from torch import Tensor, nn


class MoreChannels(nn.Module):
    def __init__(self, *, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels + 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Pair(nn.Conv3d):
    def __init__(self, *, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x
