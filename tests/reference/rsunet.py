"""The residual symmetric U-Net as one reads it in the paper, from a trained net's state."""

import torch
import torch.nn.functional as F
from torch import Tensor


def rsunet(
    image: Tensor,
    state: dict[str, Tensor],
    *,
    down_factors: list[tuple[int, int, int]],
    num_groups: int,
    stem: str,
    stem_factor: tuple[int, int, int] = (1, 1, 1),
    heads: tuple[str, ...] = (),
) -> Tensor:
    """Logits of the image: norm group, activation ELU; one after the other of separate heads."""

    def activated(x: Tensor, name: str) -> Tensor:
        n, c = x.shape[:2]
        groups = min(num_groups, c)
        while c % groups:
            groups -= 1
        grouped = x.reshape(n, groups, -1)
        mean = grouped.mean(2, keepdim=True)
        std = ((grouped - mean) ** 2).mean(2, keepdim=True).add(1e-5).sqrt()
        weight, bias = (state[f"{name}.0.{w}"].reshape(1, c, 1, 1, 1) for w in ("weight", "bias"))
        y = ((grouped - mean) / std).reshape(x.shape) * weight + bias
        return torch.where(y > 0, y, torch.exp(y) - 1)

    def conv(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = [k // 2 for k in weight.shape[2:]]
        return F.conv3d(x, weight, state.get(f"{name}.bias"), padding=padding)

    def coarse(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        padding = [(k - f) // 2 for k, f in zip(weight.shape[2:], stem_factor, strict=True)]
        z, y, x_step = stem_factor
        return F.conv3d(x, weight, padding=padding)[:, :, ::z, ::y, ::x_step]

    def fine(x: Tensor, name: str) -> Tensor:
        # Each voxel becomes a box of voxels with weights of their own.
        weight = state[f"{name}.weight"]
        logits = torch.einsum("nczyx,coijk->noziyjxk", x, weight)
        n, o, z, i, y, j, x_size, k = logits.shape
        logits = logits.reshape(n, o, z * i, y * j, x_size * k)
        return logits + state[f"{name}.bias"].reshape(1, o, 1, 1, 1)

    def leave(x: Tensor, name: str) -> Tensor:
        x = activated(x, f"{name}.0")
        return conv(x, f"{name}.1") if stem_factor == (1, 1, 1) else fine(x, f"{name}.1")

    def step(x: Tensor, name: str) -> Tensor:
        return conv(activated(x, f"{name}.0"), f"{name}.1")

    def block(x: Tensor, name: str, *, plain: bool = False) -> Tensor:
        x = coarse(x, f"{name}.enter.1") if plain else step(x, f"{name}.enter")
        x = x + step(step(x, f"{name}.residual.0"), f"{name}.residual.1")
        return step(x, f"{name}.leave")

    skips = [block(image, "encoder.0", plain=stem == "conv")]
    for level, factor in enumerate(down_factors, 1):
        skips.append(block(F.max_pool3d(skips[-1], factor), f"encoder.{level}"))
    x = skips[-1]
    for level in reversed(range(len(down_factors))):
        for axis, factor in enumerate(down_factors[level]):
            x = stretch(x, 2 + axis, factor)
        x = block(skips[level] + conv(x, f"joins.{level}.project"), f"decoder.{level}")
    own = [f"heads.0.{name}" for name in heads]
    parts = [
        leave(x + step(step(x, f"{name}.residual.0"), f"{name}.residual.1"), f"{name}.leave")
        for name in own
    ]
    return torch.cat(parts, 1) if heads else leave(x, "heads.0")


def stretch(x: Tensor, axis: int, factor: int) -> Tensor:
    """Linear interpolation between voxel centres, the outermost ones held to the faces."""
    size = x.shape[axis]
    pieces = []
    for i in range(size * factor):
        position = (i + 0.5) / factor - 0.5
        below = int(position // 1)
        share = position - below
        a, b = (min(max(j, 0), size - 1) for j in (below, below + 1))
        pieces.append(x.select(axis, a) * (1 - share) + x.select(axis, b) * share)
    return torch.stack(pieces, axis)
