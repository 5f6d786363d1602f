"""A mask: the voxels whose probability is above a threshold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from emseg.blocks.grid import Block, grid
from emseg.blocks.store import Store
from emseg.bounds import Fraction
from emseg.decoding.decoder import Blockwise, Sweeping, as_function
from emseg.decoding.edge_flags import ordered
from emseg.decoding.edges import check_prediction, check_values, largest_off
from emseg.errors import UserError
from emseg.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Binary(Sweeping, Blockwise):
    """The mask (Z, Y, X), uint8: 1 where the probability exceeds a threshold, else 0.

    Args:
        prediction: (1, Z, Y, X), probabilities: float32, float16 or uint8 (0 to 255).
        threshold: 0 to 1; it and the value (a uint8 divided by 255) are compared as float32,
            strictly.

    Raises:
        UserError: more channels, logits, or a threshold out of range.
    """

    swept: ClassVar[str] = "threshold"

    threshold: Fraction = 0.5

    def __call__(self, prediction: np.ndarray) -> np.ndarray:
        [(_, mask)] = self.sweep(prediction, [self.threshold])
        return mask

    def sweep(
        self, prediction: np.ndarray, values: Sequence[float]
    ) -> Iterator[tuple[float, np.ndarray]]:
        _check_channel(prediction, len(prediction))
        check_values([prediction], prediction.dtype)
        for value in self.ascending(values):
            yield value, _above(prediction[0], value)

    def blocks(
        self, prediction: Volume, *, store: Store, block_shape: Sequence[int]
    ) -> Iterator[tuple[Block, np.ndarray]]:
        # A block depends only on its own voxels, so nothing is saved in the store.
        _check_channel(prediction, prediction.channels or 1)
        for block in grid(prediction.shape, block_shape):
            [values] = prediction.read(block.start, block.stop)
            check_values([values], values.dtype)
            yield block, _above(values, self.threshold)


def _above(values: np.ndarray, threshold: float) -> np.ndarray:
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


binary = as_function(Binary)
