"""A mask: the voxels whose probability is above a threshold."""

from collections.abc import Iterator, Sequence

import numpy as np

from emseg.blocks.grid import Block, grid
from emseg.blocks.store import Store
from emseg.decoding.decoder_forms import Blockwise, Sweep
from emseg.decoding.edge_flags import check_threshold, ordered
from emseg.decoding.edges import check_prediction, check_values, largest_off
from emseg.errors import UserError
from emseg.volumes import Volume


def binary(prediction: np.ndarray, *, threshold: float = 0.5) -> np.ndarray:
    """The mask (Z, Y, X), uint8: 1 where the probability exceeds `threshold`, else 0.

    `prediction` (1, Z, Y, X) holds probabilities of one channel: float32, float16 or uint8 (0 to
    255). Value (a uint8 divided by 255) and threshold are compared as float32, strictly.
    Raises UserError if there are more channels, logits, or a threshold outside [0, 1].
    """
    [(_, mask)] = binary_sweep(prediction, threshold=[threshold])
    return mask


def binary_sweep(
    prediction: np.ndarray, *, threshold: Sequence[float]
) -> Iterator[tuple[float, np.ndarray]]:
    """(threshold, mask) as of `binary`, thresholds ascending."""
    _check_channel(prediction, len(prediction))
    check_values([prediction], prediction.dtype)
    for value in sorted(set(threshold)):
        yield value, _above(prediction[0], value)


def binary_blocks(
    prediction: Volume, *, threshold: float = 0.5, store: Store, block_shape: Sequence[int]
) -> Iterator[tuple[Block, np.ndarray]]:
    """(block, its mask) of what `binary` returns, in C order of blocks of `block_shape`.

    A block depends only on its own voxels, so nothing is saved in the `store`.
    """
    _check_channel(prediction, prediction.channels or 1)
    for block in grid(prediction.shape, block_shape):
        [values] = prediction.read(block.start, block.stop)
        check_values([values], values.dtype)
        yield block, _above(values, threshold)


BLOCKWISE = Blockwise(decoder=binary, function=binary_blocks)
SWEEP = Sweep(decoder=binary, argument="threshold", function=binary_sweep)


def _above(values: np.ndarray, threshold: float) -> np.ndarray:
    check_threshold(threshold)
    comparable = ordered(values)
    off = largest_off(values.dtype, threshold).view(comparable.dtype)
    return (comparable > off).view(np.uint8)


def _check_channel(prediction: np.ndarray | Volume, channels: int) -> None:
    if channels != 1:
        raise UserError(
            f"decoding=binary makes a mask of one channel, the prediction has {channels}: choose "
            "one with inference.model.select_channel"
        )
    check_prediction(prediction, offsets=[(0, 0, 0)])
