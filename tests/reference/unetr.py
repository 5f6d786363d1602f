"""The anisotropic UNETR and the masked autoencoder from their weights, operation by operation."""

import torch
import torch.nn.functional as F


def states(tokens, weights, *, heads):
    """What each block makes of the tokens."""
    x, found = tokens + weights["pos_embed"], []
    for block in range(_count(weights, "encoder_blocks")):
        own = _below(weights, f"encoder_blocks.{block}")
        x = x + _attention(_layer_norm(x, own, "norm1"), own, heads)
        y = _linear(_layer_norm(x, own, "norm2"), own, "mlp.0")
        x = x + _linear(_gelu(y), own, "mlp.3")
        found.append(x)
    return found


def tokens(image, weights):
    """Patches by one linear map, z slowest."""
    weight = weights["patch_embed.proj.weight"]
    pz, py, px = weight.shape[2:]
    n, c, z, y, x = image.shape
    split = image.reshape(n, c, z // pz, pz, y // py, py, x // px, px)
    patches = split.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(n, -1, c * pz * py * px)
    return patches @ weight.flatten(1).T + weights["patch_embed.proj.bias"]


def unetr(image, weights, *, heads, skips, squeeze):
    found = states(tokens(image, weights), weights, heads=heads)
    patch = weights["patch_embed.proj.weight"].shape[2:]
    grid = [size // step for size, step in zip(image.shape[2:], patch, strict=True)]

    def volume(x):
        return x.permute(0, 2, 1).reshape(len(x), -1, *grid)

    x = volume(_layer_norm(found[-1], weights, "norm"))
    levels = ((5, 4, 1), (4, 3, 2), (3, 2, 3))
    for skip, (decoder, encoder, steps) in zip(reversed(skips), levels, strict=True):
        beside = _token_up(volume(found[skip]), _below(weights, f"encoder{encoder}.block"), steps)
        x = _up_concat(x, beside, _below(weights, f"decoder{decoder}"))
    if squeeze > 1:
        x = F.conv3d(x, weights["dtrans.weight"], stride=(squeeze, 1, 1), padding=1)
    x = _up_concat(x, _residual(image, _below(weights, "encoder1")), _below(weights, "decoder2"))
    head = _below(weights, "head")
    return _em_head(x, head) if "channel_bias" in head else _conv(x, head, "")


def guessed_patches(image, hidden, weights, *, heads):
    """The decoder's output of each token, `hidden` (N, tokens) replaced by the mask token."""
    seen = tokens(image, weights)
    seen[hidden] = weights["mask_token"][0, 0]
    x = _layer_norm(states(seen, weights, heads=heads)[-1], weights, "norm")
    return _linear(_gelu(_linear(x, weights, "decoder.0")), weights, "decoder.2")


def _em_head(x, w):
    for block in ("shared.0.conv", "shared.1.conv"):
        own = _below(w, block)
        y = _gelu(_norm(_conv(x, own, "0"), own, "1"))
        x = _gelu(_norm(_conv(y, own, "4"), own, "5") + x)
    z, xy = (_gelu(_norm(_conv(x, w, f"{p}.0"), w, f"{p}.1")) for p in ("z_refine", "xy_refine"))
    logits = torch.cat([_conv(z, w, "z_head"), _conv(xy, w, "xy_head")], 1)
    return logits * w["channel_scale"] + w["channel_bias"]


def _token_up(x, w, steps):
    x = _gelu(_norm(_conv(x, w, "0"), w, "1"))
    for k in range(steps):
        x = F.conv_transpose3d(x, w[f"{3 + 4 * k}.weight"], stride=2)
        x = _residual(_gelu(_norm(x, w, f"{4 + 4 * k}")), _below(w, f"{6 + 4 * k}"))
    return x


def _up_concat(x, skip, w):
    x = F.conv_transpose3d(x, w["up.weight"], stride=2)
    x = F.interpolate(x, skip.shape[2:], mode="trilinear", align_corners=False)
    return _residual(torch.cat([x, skip], 1), _below(w, "conv"))


def _residual(x, w):
    y = _gelu(_norm(_conv(x, w, "conv.0"), w, "conv.1"))
    y = _norm(_conv(y, w, "conv.4"), w, "conv.5")
    if "residual.0.weight" in w:
        x = _norm(_conv(x, w, "residual.0"), w, "residual.1")
    return _gelu(y + x)


def _attention(x, w, heads):
    n, count, width = x.shape
    qkv = x @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"]
    q, k, v = qkv.reshape(n, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    shares = (q @ k.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)
    return _linear((shares @ v).transpose(1, 2).reshape(n, count, width), w, "attn.out_proj")


def _conv(x, w, name):
    place = f"{name}." if name else ""
    weight = w[f"{place}weight"]
    same = [size // 2 for size in weight.shape[2:]]
    return F.conv3d(x, weight, w.get(f"{place}bias"), padding=same)


def _norm(x, w, name):
    return F.instance_norm(x, weight=w[f"{name}.weight"], bias=w[f"{name}.bias"])


def _layer_norm(x, w, name):
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def _linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _gelu(x):
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def _below(weights, place):
    return {k.removeprefix(f"{place}."): v for k, v in weights.items() if k.startswith(f"{place}.")}


def _count(weights, place):
    return 1 + max(int(name.split(".")[1]) for name in weights if name.startswith(f"{place}."))
