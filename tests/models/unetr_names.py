"""The tensors of dbMiM's checkpoints by name and shape, and small networks of the same kind."""

from collections.abc import Iterator

TINY = {
    "volume_size": (8, 32, 32),
    "patch_size": (2, 8, 8),
    "embed_dim": 48,
    "depth": 4,
    "num_heads": 4,
}
# Of the decoder's levels: width, and how often tokens are doubled to get there.
LEVELS = {2: (64, 3), 3: (128, 2), 4: (256, 1)}

Named = Iterator[tuple[str, tuple[int, ...]]]


def encoder(width: int = 192, depth: int = 6, tokens: int = 800) -> Named:
    yield "pos_embed", (1, tokens, width)
    yield "patch_embed.proj.weight", (width, 1, 4, 16, 16)
    yield "patch_embed.proj.bias", (width,)
    for block in range(depth):
        place = f"encoder_blocks.{block}"
        yield f"{place}.attn.in_proj_weight", (3 * width, width)
        yield f"{place}.attn.in_proj_bias", (3 * width,)
        for name, after, before in (
            ("attn.out_proj", width, width),
            ("mlp.0", 4 * width, width),
            ("mlp.3", width, 4 * width),
        ):
            yield f"{place}.{name}.weight", (after, before)
            yield f"{place}.{name}.bias", (after,)
        for norm in ("norm1", "norm2"):
            yield from _norm(f"{place}.{norm}", width)
    yield from _norm("norm", width)


def pretraining() -> Named:
    yield from encoder()
    yield "mask_token", (1, 1, 192)
    for layer, after in ((0, 192), (2, 1024)):
        yield f"decoder.{layer}.weight", (after, 192)
        yield f"decoder.{layer}.bias", (after,)


def unetr() -> Named:
    """All but the head."""
    yield from encoder()
    yield from _residual("encoder1", 1, 32)
    for number, (width, steps) in LEVELS.items():
        place = f"encoder{number}.block"
        yield f"{place}.0.weight", (width, 192, 1, 1, 1)
        yield from _norm(f"{place}.1", width)
        for k in range(steps):
            yield f"{place}.{3 + 4 * k}.weight", (width, width, 2, 2, 2)
            yield from _norm(f"{place}.{4 + 4 * k}", width)
            yield from _residual(f"{place}.{6 + 4 * k}", width, width)
    for number, before, after in ((5, 192, 256), (4, 256, 128), (3, 128, 64), (2, 64, 32)):
        yield f"decoder{number}.up.weight", (before, after, 2, 2, 2)
        yield from _residual(f"decoder{number}.conv", 2 * after, after)
    yield "dtrans.weight", (64, 64, 3, 3, 3)


def plain_head() -> Named:
    yield "head.weight", (3, 32, 1, 1, 1)
    yield "head.bias", (3,)


def em_head() -> Named:
    yield "head.channel_bias", (1, 3, 1, 1, 1)
    yield "head.channel_scale", (1, 3, 1, 1, 1)
    for block in (0, 1):
        place = f"head.shared.{block}.conv"
        yield f"{place}.0.weight", (32, 32, 1, 3, 3)
        yield from _norm(f"{place}.1", 32)
        yield f"{place}.4.weight", (32, 32, 3, 1, 1)
        yield from _norm(f"{place}.5", 32)
    for branch, kernel, channels in (("z", (3, 1, 1), 1), ("xy", (1, 3, 3), 2)):
        yield f"head.{branch}_refine.0.weight", (32, 32, *kernel)
        yield from _norm(f"head.{branch}_refine.1", 32)
        yield f"head.{branch}_head.weight", (channels, 32, 1, 1, 1)
        yield f"head.{branch}_head.bias", (channels,)


def _residual(place: str, before: int, after: int) -> Named:
    yield f"{place}.conv.0.weight", (after, before, 3, 3, 3)
    yield from _norm(f"{place}.conv.1", after)
    yield f"{place}.conv.4.weight", (after, after, 3, 3, 3)
    yield from _norm(f"{place}.conv.5", after)
    if before != after:
        yield f"{place}.residual.0.weight", (after, before, 1, 1, 1)
        yield from _norm(f"{place}.residual.1", after)


def _norm(place: str, width: int) -> Named:
    yield f"{place}.weight", (width,)
    yield f"{place}.bias", (width,)
