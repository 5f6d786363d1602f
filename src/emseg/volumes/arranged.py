"""Stored arrays seen with their axes in another order, some left out, some added."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emseg.volumes.source import StoredArray


@dataclass(frozen=True)
class Arranged:
    """A stored array whose axes are seen in the `order` given, each by its stored number.

    None stands for an axis of length 1 that is not stored; stored axes that are not in `order` have
    the length 1 and are left out.
    """

    stored: StoredArray
    order: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(1 if axis is None else self.stored.shape[axis] for axis in self.order)

    @property
    def dtype(self) -> np.dtype:
        return self.stored.dtype

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        parts = [slice(0, 1)] * len(self.stored.shape)
        for axis, part in zip(self.order, region, strict=True):
            if axis is not None:
                parts[axis] = part
        return _in_order(self.stored[tuple(parts)], self.order)


def arranged(source: StoredArray, order: Sequence[int | None]) -> StoredArray:
    """The source with its axes in this order; an array in memory stays one, as a view."""
    order = tuple(order)
    if order == tuple(range(len(source.shape))):
        return source
    if isinstance(source, np.ndarray):
        return _in_order(source, order)
    if isinstance(source, Arranged):
        order = tuple(None if axis is None else source.order[axis] for axis in order)
        source = source.stored
    return Arranged(source, order)


def _in_order(array: np.ndarray, order: Sequence[int | None]) -> np.ndarray:
    seen = [axis for axis in order if axis is not None]
    left_out = [axis for axis in range(array.ndim) if axis not in seen]
    array = array.transpose([*seen, *left_out])[(..., *[0] * len(left_out))]
    return array[tuple(np.newaxis if axis is None else slice(None) for axis in order)]
