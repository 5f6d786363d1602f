"""Which edges of a prediction are on at a threshold, and the mask of where edges count."""

from collections.abc import Sequence

import numpy as np

from emseg.blocks.memory import cores
from emseg.decoding.edges import AxisEdge, largest_off
from emseg.errors import UserError
from emseg.kernels.components import EDGE_BITS, flags_above
from emseg.volumes import Volume, open_volume


def edge_flags(
    prediction: np.ndarray, edges: Sequence[AxisEdge], threshold: float, mask: np.ndarray | None
) -> np.ndarray:
    """Flags uint8 (Z, Y, X), bit a for a voxel's own edge along axis a, for `edge_components`.

    An edge is on if its value exceeds the threshold, both as float32. With a mask (Z, Y, X) bool,
    edges with an end where it is false are off, whichever end stores them.
    """
    off = largest_off(prediction.dtype, threshold)
    values = ordered(prediction)
    limit = off.view(values.dtype)
    flags = flags_above([values[edge.channel] for edge in edges], limit, threads=cores())
    if mask is not None:
        _switch_off(flags, edges, mask)
    return flags


def ordered(prediction: np.ndarray) -> np.ndarray:
    """The prediction, float16 as int16, which is much faster: from 0 to 1 both have one order."""
    return prediction.view(np.int16) if prediction.dtype == np.float16 else prediction


def sides(edges: Sequence[AxisEdge]) -> tuple[bool, bool, bool]:
    """Per axis whether a voxel stores the edge to the next voxel."""
    first, second, third = (edge.side == "source" for edge in edges)
    return first, second, third


def open_mask(location: str | None, shape: Sequence[int]) -> Volume | None:
    """The mask (Z, Y, X) of any number type, None without a location.

    Raises:
        UserError: it has channels or another shape.
    """
    if location is None:
        return None
    volume = open_volume(location).without_lone_channel()
    if volume.channels is not None:
        raise UserError(
            f"decoding.affinity_mask_path: {location} has {volume.channels} channels, "
            "a mask has none"
        )
    if tuple(volume.shape) != tuple(shape):
        raise UserError(
            f"decoding.affinity_mask_path: {location} has the shape {tuple(volume.shape)}, "
            f"the prediction {tuple(shape)}"
        )
    return volume


def _switch_off(flags: np.ndarray, edges: Sequence[AxisEdge], mask: np.ndarray) -> None:
    flags[~mask] = 0
    for axis, (edge, bit) in enumerate(zip(edges, EDGE_BITS, strict=True)):
        before = (*[slice(None)] * axis, slice(None, -1))
        after = (*[slice(None)] * axis, slice(1, None))
        here, there = (before, after) if edge.side == "source" else (after, before)
        flags[here][~mask[there]] &= np.uint8(0xFF ^ bit)
