"""The tensors of SSNS-Net's checkpoints by name and shape."""

from collections.abc import Iterator

WIDTH = (28, 36, 48, 64, 80)
STATISTICS = ("weight", "bias", "running_mean", "running_var")

Named = Iterator[tuple[str, tuple[int, ...]]]


def encoder() -> Named:
    yield from _biased("embed_in.0", (28, 1, 1, 5, 5))
    for name, before, after in (
        ("conv0", 28, 28),
        ("conv1", 28, 36),
        ("conv2", 36, 48),
        ("conv3", 48, 64),
        ("center", 64, 80),
    ):
        yield from _block(name, before, after)


def decoder(out_channels: int, *, seen: int) -> Named:
    """`seen` is 2 where the encoder's channels stand beside the decoder's own."""
    for number, (wide, own) in enumerate(((80, 64), (64, 48), (48, 36), (36, 28))):
        yield from _biased(f"up{number}.0", (wide, 1, 1, 2, 2))
        yield from _biased(f"up{number}.1", (own, wide, 1, 1, 1))
        yield from _norm(f"cat{number}.0", seen * own)
        yield from _block(f"conv{number + 4}", seen * own, own)
    yield from _biased("embed_out.0", (28, 28, 1, 5, 5))
    yield from _biased("out_put.0", (out_channels, 28, 1, 1, 1))


def _block(name: str, before: int, after: int) -> Named:
    yield f"{name}.block1.0.weight", (after, before, 1, 3, 3)
    yield from _norm(f"{name}.block1.1", after)
    yield f"{name}.block2.0.weight", (after, after, 3, 3, 3)
    yield from _norm(f"{name}.block2.1", after)
    yield f"{name}.block2.3.weight", (after, after, 3, 3, 3)
    yield from _norm(f"{name}.block3", after)


def _biased(name: str, shape: tuple[int, ...]) -> Named:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _norm(name: str, width: int) -> Named:
    for kind in STATISTICS:
        yield f"{name}.{kind}", (width,)
    yield f"{name}.num_batches_tracked", ()
