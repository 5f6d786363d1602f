"""Which channels of a prediction are for nearest neighbours, and which for distant pairs."""

from dataclasses import dataclass

import numpy as np

from emseg.decoding.edges import AxisEdge, Offsets, axis_edges
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide


@dataclass(frozen=True)
class LongEdge:
    """A channel whose value at v is for the pair (v, v + `partner`), in steps along the axes."""

    channel: int
    partner: tuple[int, int, int]


def near_and_long(
    offsets: Offsets, edge_side: EdgeSide, *, decoder: str
) -> tuple[tuple[AxisEdge, AxisEdge, AxisEdge], list[LongEdge]]:
    """The channel of each axis's shortest offset, as of `axis_edges`, and all the others.

    Raises:
        UserError: it names the `decoder`; an axis has none or two equally short ones, or there are
            no others.
    """
    near = [_shortest(offsets, axis, decoder) for axis in range(3)]
    found = axis_edges([offsets[channel] for channel in near], edge_side)
    first, second, third = (AxisEdge(near[edge.channel], edge.side) for edge in found)
    sign = 1 if edge_side == "source" else -1
    long = [
        LongEdge(channel, (sign * int(dz), sign * int(dy), sign * int(dx)))
        for channel, (dz, dy, dx) in enumerate(offsets)
        if channel not in near
    ]
    if not long:
        raise UserError(
            f"decoding={decoder} needs affinities over longer ranges beside the nearest, not the "
            f"offsets {_listed(offsets)} alone: train a target that has them, as target=aff6_long "
            "or target=aff12, and name all its channels in inference.model.select_channel (null is "
            "the nearest)"
        )
    return (first, second, third), long


def _shortest(offsets: Offsets, axis: int, decoder: str) -> int:
    along = {
        channel: abs(offset[axis])
        for channel, offset in enumerate(offsets)
        if np.flatnonzero(offset).tolist() == [axis]
    }
    least = [channel for channel, length in along.items() if length == min(along.values())]
    if len(least) != 1:
        raise UserError(
            f"decoding={decoder} takes one channel for the shortest pairs along each axis: along "
            f"axis {axis} the offsets {_listed(offsets)} have {len(least)}"
        )
    return least[0]


def _listed(offsets: Offsets) -> list[list[int]]:
    return [[int(step) for step in offset] for offset in offsets]
