"""Mutex watershed: near pairs of voxels join segments, distant pairs keep them apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np

from emseg.blocks.memory import GIB, memory_within
from emseg.bounds import Positive, within
from emseg.decoding.cut_solvers import bioimage
from emseg.decoding.decoder import Decoder, as_function
from emseg.decoding.edges import AxisEdge, Offsets, check_prediction, check_values
from emseg.decoding.ranges import LongEdge, near_and_long
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide, shift_edges
from emseg.kernels.section_watershed import number_by_first

# Memory beside the prediction, per value and per pair of voxels that counts (measured).
BYTES_PER_VALUE, BYTES_PER_PAIR = 6, 54


@dataclass(frozen=True, kw_only=True)
class MutexWatershed(Decoder):
    """Labels (Z, Y, X) of voxels joined by their strongest edges, unless a stronger one forbids it.

    The shortest channel along each axis attracts with its probability a, all others, at least one,
    repel with 1 - a. All pairs are processed by this weight, strongest first: an attractive one
    joins the segments of its ends unless an earlier pair has separated them, a repulsive one
    separates the segments of its ends unless they are joined. Wolf et al., "The Mutex Watershed and
    its Objective", TPAMI 2020.

    Args:
        prediction: (C, Z, Y, X), probabilities that a pair lies in one object: float32, float16 or
            uint8 (0 to 255).
        strides: repulsive pairs count only if their first voxel in C order lies on the grid of
            these steps from the volume's corner.
        dust_remove_size: segments of fewer voxels become 0.
        memory_limit: GiB; None: all the memory of machine or cgroup.
        offsets, edge_side: of the channels, see `near_and_long`.

    Returns:
        uint32, numbered 1, 2, … by their first voxel in C order.

    Raises:
        UserError: a prediction of another kind, more than `memory_limit` would be needed, or no
            bioimage-cpp, the solver's package.
    """

    strides: tuple[Positive, Positive, Positive] = (1, 10, 10)
    dust_remove_size: Annotated[int, within(0)] = 0
    memory_limit: float | None = None

    def __call__(
        self, prediction: np.ndarray, *, offsets: Offsets, edge_side: EdgeSide
    ) -> np.ndarray:
        segmentation = bioimage("segmentation")
        check_prediction(prediction, offsets=offsets)
        near, long = near_and_long(offsets, edge_side, decoder="mutex_watershed")
        check_values([prediction], prediction.dtype)
        _check_memory(prediction.shape, self.strides, memory_within(self.memory_limit))
        weights, partners = pair_weights(prediction, near, long)
        labels = segmentation.mutex_watershed(weights, partners, 3, strides=tuple(self.strides))
        del weights
        return _numbered(labels.astype(np.uint32), self.dust_remove_size)


def pair_weights(
    prediction: np.ndarray, near: Sequence[AxisEdge], long: Sequence[LongEdge]
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """(weights, partners): float32 (C, Z, Y, X), at v that of the pair (v, v + partners[c]).

    First the `near` channels, in the order of axes, with their affinities, then the `long` ones, 1
    minus affinity. A partner's first step not 0 is positive; pairs that lead out have any weight.
    """
    scale = np.float32(255 if prediction.dtype == np.uint8 else 1)
    weights = np.empty((3 + len(long), *prediction.shape[1:]), np.float32)
    partners = []
    for axis, edge in enumerate(near):
        unit = tuple(int(at == axis) for at in range(3))
        partners.append(unit)
        weights[axis] = _from_source(prediction[edge.channel], unit, edge.side) / scale
    for place, link in enumerate(long, 3):
        ahead = link.partner > (0, 0, 0)
        partner = link.partner if ahead else tuple(-step for step in link.partner)
        partners.append(partner)
        side: EdgeSide = "source" if ahead else "destination"
        values = _from_source(prediction[link.channel], partner, side) / scale
        np.subtract(np.float32(1), values, out=weights[place], dtype=np.float32)
    return weights, partners


def _from_source(channel: np.ndarray, offset: Sequence[int], side: EdgeSide) -> np.ndarray:
    return shift_edges(channel[None], offsets=[offset], from_side=side, to_side="source")[0]


def _numbered(labels: np.ndarray, dust_remove_size: int) -> np.ndarray:
    """Labels by first voxels, uint32, those of too few voxels 0; `labels` has no 0."""
    zeros = partial(np.zeros, int(labels.max()) + 1)
    sizes = zeros(np.int64)
    number_by_first(labels, zeros(np.uint32), zeros(np.int64), sizes)
    large_enough = sizes >= max(dust_remove_size, 1)
    if large_enough[1:].all():
        return labels
    return np.where(large_enough, np.cumsum(large_enough), 0).astype(np.uint32)[labels]


def _check_memory(shape: tuple[int, ...], strides: Sequence[int], allowed: int) -> None:
    pairs = 3 + (shape[0] - 3) / math.prod(strides)
    needed = (BYTES_PER_VALUE * shape[0] + BYTES_PER_PAIR * pairs) * math.prod(shape[1:])
    if needed > allowed:
        raise UserError(
            f"decoding=mutex_watershed sorts all pairs of voxels at once, which takes about "
            f"{needed / GIB:.3g} GiB, decoding.memory_limit is {allowed / GIB:.3g}: decode a part "
            "of the volume, with wider decoding.strides, or raise the limit"
        )


mutex_watershed = as_function(MutexWatershed)
