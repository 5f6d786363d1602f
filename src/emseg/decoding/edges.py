"""Which channel of a prediction is which axis's edge, and whether its values are probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide, shift_edges

# The largest value of the dtypes that a prediction comes in.
_SCALES = {np.dtype(np.float32): 1, np.dtype(np.float16): 1, np.dtype(np.uint8): 255}


@dataclass(frozen=True)
class AxisEdge:
    """The channel that stands for an axis's edge, and where it stores the pair (v, v - 1)."""

    channel: int
    side: EdgeSide


def axis_edges(
    offsets: Sequence[Sequence[int]], edge_side: EdgeSide
) -> tuple[AxisEdge, AxisEdge, AxisEdge]:
    """For axis 0, 1, 2 the channel of its edge and the side on which that edge is stored.

    Decoders of nearest-neighbour graphs need exactly one channel per axis, with an offset along
    that axis alone. Its length does not count: what is stored at v for the pair (v, v - 3) is
    taken for the pair (v, v - 1), so that changing sides always moves values by one voxel. A
    negative offset is its positive twin stored at the other side: a pair (v, v - 1) at v is of
    offset -1 as source and of offset 1 as destination.

    Any other offsets are a UserError.
    """
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


def check_prediction(prediction: np.ndarray, *, offsets: Sequence[Sequence[int]]) -> None:
    """A UserError unless the prediction is (C, Z, Y, X) of probabilities, a channel per offset.

    Probabilities are float32 or float16 in [0, 1], or uint8 for 0 to 255 parts of 255. Logits
    would meet a decoder's thresholds at the wrong places, hence they are refused.
    """
    if prediction.ndim != 4 or 0 in prediction.shape:
        raise UserError(f"the prediction has the shape {prediction.shape}, not (C, Z, Y, X)")
    if len(prediction) != len(offsets):
        raise UserError(
            f"the prediction has {len(prediction)} channels, its offsets are {len(offsets)}"
        )
    if prediction.dtype not in _SCALES:
        raise UserError(
            f"the prediction is {prediction.dtype}; a decoder takes float32, float16 or uint8"
        )
    # Written so that NaN, which either extreme hands on, fails too.
    low, high = prediction.min(), prediction.max()
    if prediction.dtype != np.uint8 and not (low >= 0 and high <= 1):
        raise UserError(
            f"the prediction runs from {low:g} to {high:g}; a decoder takes probabilities in "
            "[0, 1], not logits (predict with inference.activation=sigmoid)"
        )


def destination_affinities(
    prediction: np.ndarray, *, offsets: Sequence[Sequence[int]], edge_side: EdgeSide
) -> np.ndarray:
    """Affinities float32 (3, Z, Y, X) in axis order, channel a at v for the pair (v, v - e_a).

    C-contiguous and in [0, 1]. The first plane of each axis, whose pairs lead out of the volume,
    is 0 where values had to be moved.
    """
    affinities = np.empty((3, *prediction.shape[1:]), np.float32)
    for axis, edge in enumerate(axis_edges(offsets, edge_side)):
        step = [[int(at == axis) for at in range(3)]]
        channel = prediction[edge.channel][None]
        moved = shift_edges(channel, offsets=step, from_side=edge.side, to_side="destination")
        np.divide(moved[0], _SCALES[prediction.dtype], out=affinities[axis], dtype=np.float32)
    return affinities


def largest_off(dtype: np.dtype, threshold: float) -> np.generic:
    """The largest value of `dtype` that does not exceed the threshold, both taken in float32."""
    limit = np.float32(threshold)
    if dtype == np.uint8:
        levels = np.arange(256, dtype=np.float32) / np.float32(255)
        return np.uint8(np.count_nonzero(levels <= limit) - 1)
    nearest = limit.astype(dtype)
    return nearest if np.float32(nearest) <= limit else np.nextafter(nearest, dtype.type(-1))


def _other(side: EdgeSide) -> EdgeSide:
    return "destination" if side == "source" else "source"
