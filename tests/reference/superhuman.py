"""SSNS-Net's U-Net as its formula reads, from a trained net's state."""

import torch
import torch.nn.functional as F
from torch import Tensor


def superhuman(image: Tensor, state: dict[str, Tensor], *, levels: int, merge: str) -> Tensor:
    """Logits of the image, batch norms by their running statistics."""

    def conv(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = [k // 2 for k in weight.shape[2:]]
        return F.conv3d(x, weight, state.get(f"{name}.bias"), padding=padding)

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias, mean, variance = (
            state[f"{name}.{kind}"].reshape(1, -1, 1, 1, 1)
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def elu(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x.exp() - 1)

    def block(x: Tensor, name: str) -> Tensor:
        r = elu(norm(conv(x, f"{name}.block1.0"), f"{name}.block1.1"))
        inner = elu(norm(conv(r, f"{name}.block2.0"), f"{name}.block2.1"))
        return elu(norm(r + conv(inner, f"{name}.block2.3"), f"{name}.block3"))

    def up(x: Tensor, name: str) -> Tensor:
        # Each voxel becomes a square of 2 x 2, with weights of its channel's own.
        n, c, z, y, width = x.shape
        square = state[f"{name}.0.weight"].reshape(1, c, 1, 1, 2, 1, 2)
        spread = x.reshape(n, c, z, y, 1, width, 1) * square
        spread = spread.reshape(n, c, z, 2 * y, 2 * width)
        spread = spread + state[f"{name}.0.bias"].reshape(1, c, 1, 1, 1)
        weight = state[f"{name}.1.weight"].reshape(-1, c)
        mixed = torch.einsum("oc,nczyx->nozyx", weight, spread)
        return mixed + state[f"{name}.1.bias"].reshape(1, -1, 1, 1, 1)

    x, skips = elu(conv(image, "embed_in.0")), []
    for level in range(levels):
        skips.append(block(x, f"conv{level}"))
        tall, wide = (size // 2 for size in skips[-1].shape[3:])
        x = skips[-1].unflatten(4, (wide, 2)).unflatten(3, (tall, 2)).amax((4, 6))
    x = block(x, "center")
    for number in range(levels):
        x = up(x, f"up{number}")
        skip = skips[levels - 1 - number]
        x = {"concat": torch.cat([x, skip], 1), "add": x + skip, "none": x}[merge]
        x = block(elu(norm(x, f"cat{number}.0")), f"conv{levels + number}")
    return conv(elu(conv(x, "embed_out.0")), "out_put.0")
