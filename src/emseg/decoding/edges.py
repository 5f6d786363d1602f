"""Which channel of a prediction is which axis's edge, and whether its values are probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args

import numpy as np

from emseg.bounds import Rule
from emseg.errors import UserError, unknown_name
from emseg.kernels.affinity import EdgeSide, shift_edges
from emseg.volumes import Volume

Offsets = Sequence[Sequence[int]]
# Compared as float32, like affinities: two numbers that are then equal are no interval.
LowHigh = Annotated[
    tuple[float, float],
    Rule(
        "[low, high] with 0 <= low < high <= 1, as float32",
        lambda ends: ends[0] >= 0 and ends[1] <= 1 and np.float32(ends[0]) < np.float32(ends[1]),
    ),
]

# The largest value of each dtype that a prediction may have.
_SCALES = {np.dtype(np.float32): 1, np.dtype(np.float16): 1, np.dtype(np.uint8): 255}
# 1.0 as the bits of a float16.
_ONE_AS_HALF = 0x3C00


@dataclass(frozen=True)
class AxisEdge:
    """The channel that is an axis's edge, and the side at which it stores the pair (v, v - 1)."""

    channel: int
    side: EdgeSide


def axis_edges(offsets: Offsets, edge_side: EdgeSide) -> tuple[AxisEdge, AxisEdge, AxisEdge]:
    """For axis 0, 1, 2 the channel of its edge and the side on which that edge is stored.

    An offset's length does not count: the value at v for the pair (v, v - 3) is used for the pair
    (v, v - 1). A negative offset equals the positive one stored at the other side: a pair
    (v, v - 1) at v has the offset -1 as source and 1 as destination.

    Raises:
        UserError: if there is not exactly one channel per axis, with an offset along it alone.
    """
    if edge_side not in get_args(EdgeSide):
        raise unknown_name("edge side", str(edge_side), get_args(EdgeSide), where="edge_side")
    edges: list[AxisEdge] = []
    for axis in range(3):
        wanted = [at == axis for at in range(3)]
        along = [
            channel
            for channel, offset in enumerate(offsets)
            if [step != 0 for step in offset] == wanted
        ]
        if len(along) != 1 or len(offsets) != 3:
            raise UserError(
                f"the decoder takes one channel along each axis, not the offsets "
                f"{[list(offset) for offset in offsets]} (choose three with "
                "inference.model.select_channel)"
            )
        flipped = offsets[along[0]][axis] < 0
        edges.append(AxisEdge(along[0], _other(edge_side) if flipped else edge_side))
    return edges[0], edges[1], edges[2]


def check_prediction(prediction: np.ndarray | Volume, *, offsets: Offsets) -> None:
    """Raises UserError if shape (C, Z, Y, X), dtype or the number of channels is wrong.

    Allowed are float32 and float16 for probabilities in [0, 1] (see `check_values`), and uint8,
    where 255 stands for 1; one channel for each offset.
    """
    shape = tuple(prediction.shape)
    if isinstance(prediction, Volume):
        shape = (prediction.channels or 1, *shape)
    if len(shape) != 4 or 0 in shape:
        raise UserError(f"the prediction has the shape {shape}, not (C, Z, Y, X)")
    if shape[0] != len(offsets):
        raise UserError(f"the prediction has {shape[0]} channels, its offsets are {len(offsets)}")
    if prediction.dtype not in _SCALES:
        raise UserError(
            f"the prediction is {prediction.dtype}; a decoder takes float32, float16 or uint8"
        )


def check_values(arrays: Sequence[np.ndarray], dtype: np.dtype) -> None:
    """Raises UserError if a value of a prediction of `dtype`, or of `edges_of`, is not in [0, 1].

    Logits are refused, since a decoder's thresholds are probabilities.
    """
    if dtype == np.uint8:
        return
    if dtype == np.float16 and all(_at_most_one(array.view(np.uint16)) for array in arrays):
        return
    values = [array.view(dtype) for array in arrays]
    low, high = np.min([array.min() for array in values]), np.max([array.max() for array in values])
    # Written so that NaN fails too: it makes both extremes NaN.
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"the prediction runs from {low:g} to {high:g}; a decoder takes probabilities in "
            "[0, 1], not logits (predict with inference.activation=sigmoid, or make probabilities "
            "of stored logits with decoding.biases)"
        )


def legal_edges(arrays: Sequence[np.ndarray], dtype: np.dtype) -> list[np.ndarray]:
    """The arrays of `edges_of`. Raises UserError if a value is not a probability."""
    if dtype == np.float16:
        # -0.0 is legal, but its bits are those of a negative number.
        arrays = [np.where(array == np.iinfo(np.int16).min, 0, array) for array in arrays]
    check_values(arrays, dtype)
    return list(arrays)


def destination_affinities(prediction: np.ndarray, channels: Sequence[AxisEdge]) -> np.ndarray:
    """Affinities float32 (3, Z, Y, X) in axis order, channel a at v for the pair (v, v - e_a).

    `channels` says which channel of the prediction is which axis's edge. C-contiguous and in
    [0, 1]. The first plane of each axis, whose pairs lead out of the volume, is 0 if values had to
    be moved.
    """
    affinities = np.empty((3, *prediction.shape[1:]), np.float32)
    for axis, edge in enumerate(channels):
        step = [[int(at == axis) for at in range(3)]]
        channel = prediction[edge.channel][None]
        moved = shift_edges(channel, offsets=step, from_side=edge.side, to_side="destination")
        np.divide(moved[0], _SCALES[prediction.dtype], out=affinities[axis], dtype=np.float32)
    return affinities


def edges_of(
    prediction: np.ndarray | Volume,
    edges: Sequence[AxisEdge],
    start: Sequence[int],
    stop: Sequence[int],
) -> tuple[list[np.ndarray], np.ndarray]:
    """(arrays, at): the edges of a region's voxels, in the form that kernels need.

    Per axis a C-contiguous array, in which the pair of the region's voxel v and the one before it
    along the axis is at v + `at[axis]`. Pairs that lead out of the volume may be at negative
    places. Whole planes of an array in memory are views; float16 is viewed as int16, which has the
    same order from 0 to 1.
    """
    arrays, at = [], np.zeros((3, 3), np.int64)
    for axis, edge in enumerate(edges):
        low, high = list(start), list(stop)
        if edge.side == "source":
            # The pair is stored at the voxel before.
            low[axis] = max(low[axis] - 1, 0)
            high[axis] = max(high[axis] - 1, low[axis] + 1)
            at[axis, axis] = start[axis] - 1 - low[axis]
        array = _read_channel(prediction, edge.channel, low, high)
        arrays.append(array.view(np.int16) if array.dtype == np.float16 else array)
    return arrays, at


def _read_channel(
    prediction: np.ndarray | Volume, channel: int, start: Sequence[int], stop: Sequence[int]
) -> np.ndarray:
    if isinstance(prediction, Volume):
        return prediction.read(start, stop, channels=[channel])[0]
    region = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return np.ascontiguousarray(prediction[(channel, *region)])


def probabilities(dtype: np.dtype) -> np.ndarray | None:
    """The float32 value of each number that `edges_of` gives for a dtype; None if it is equal."""
    if dtype == np.float16:
        return np.arange(_ONE_AS_HALF + 1, dtype=np.int16).view(np.float16).astype(np.float32)
    return np.arange(256, dtype=np.float32) / np.float32(255) if dtype == np.uint8 else None


def limits(dtype: np.dtype, low: float, high: float) -> tuple[np.generic, np.generic, np.generic]:
    """As values of `edges_of`: the largest that does not exceed `low`, the smallest of at least
    `high` (both compared as float32), and the largest of all."""
    levels = probabilities(dtype)
    if levels is None:
        return np.float32(low), np.float32(high), np.float32(1)
    kind = np.int16 if dtype == np.float16 else np.uint8
    below = np.count_nonzero(levels <= np.float32(low)) - 1
    return kind(below), kind(np.count_nonzero(levels < np.float32(high))), kind(len(levels) - 1)


def largest_off(dtype: np.dtype, threshold: float) -> np.generic:
    """The largest value of `dtype` that does not exceed the threshold, both as float32."""
    if dtype == np.uint8:
        return limits(dtype, threshold, threshold)[0]
    limit = np.float32(threshold) + np.float32(0)  # -0.0, as bits, is below all
    nearest = limit.astype(dtype)
    return nearest if np.float32(nearest) <= limit else np.nextafter(nearest, dtype.type(-1))


def _at_most_one(halves: np.ndarray) -> bool:
    # Bits of negative numbers and NaN are larger than those of 1; integers compare 50 times faster.
    return bool(halves.max() <= _ONE_AS_HALF)


def _other(side: EdgeSide) -> EdgeSide:
    return "destination" if side == "source" else "source"
