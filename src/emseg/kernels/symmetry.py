"""Symmetries of the voxel grid, and which channel and shift they need for affinities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide

Offset = tuple[int, ...]


@dataclass(frozen=True)
class Symmetry:
    """A signed axis permutation: result axis i is axis `permutation[i]`, reversed if `flips[i]`."""

    permutation: tuple[int, ...]
    flips: tuple[bool, ...]

    def __post_init__(self) -> None:
        if sorted(self.permutation) != list(range(len(self.flips))):
            raise UserError(
                f"symmetry permutation {self.permutation} with flips {self.flips}: must name each "
                "axis once and have one flip per axis"
            )

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A view of the array with this symmetry applied to its last n axes."""
        lead = array.ndim - len(self.permutation)
        order = [*range(lead), *(lead + axis for axis in self.permutation)]
        turned = [lead + axis for axis, flip in enumerate(self.flips) if flip]
        return np.flip(array.transpose(order), tuple(turned))

    def vector(self, displacement: Sequence[int]) -> Offset:
        """The displacement, in voxels, as it appears after `apply`."""
        return tuple(
            -displacement[axis] if flip else displacement[axis]
            for axis, flip in zip(self.permutation, self.flips, strict=True)
        )

    def inverse(self) -> "Symmetry":
        """The symmetry that undoes this one."""
        order = sorted(range(len(self.permutation)), key=self.permutation.__getitem__)
        return Symmetry(tuple(order), tuple(self.flips[axis] for axis in order))

    def compose(self, first: "Symmetry") -> "Symmetry":
        """The symmetry that applies `first`, then this one."""
        return Symmetry(
            tuple(first.permutation[axis] for axis in self.permutation),
            tuple(
                flip != first.flips[axis]
                for axis, flip in zip(self.permutation, self.flips, strict=True)
            ),
        )


def identity(n_axes: int) -> Symmetry:
    """The symmetry that changes nothing."""
    return Symmetry(tuple(range(n_axes)), (False,) * n_axes)


def views(
    flip_axes: Sequence[int] | Literal["all"],
    rotation90_axes: Sequence[tuple[int, int]],
    *,
    n_axes: int = 3,
) -> tuple[Symmetry, ...]:
    """All distinct symmetries made of flips of single axes and quarter turns, identity first.

    `((1, 2), ((1, 2),))` gives the 8 symmetries of a square section, `("all", ((1, 2),))` the 16 of
    a stack of sections, `("all", ())` the 8 flips.

    Args:
        flip_axes: axes; "all" means each of them.
        rotation90_axes: the planes that may turn, as pairs of axes.

    Raises:
        UserError: an axis does not exist, or a plane is not two different axes.
    """
    axes = range(n_axes) if flip_axes == "all" else flip_axes
    generators = [_flip(axis, n_axes) for axis in axes]
    generators += [_quarter_turn(plane, n_axes) for plane in rotation90_axes]
    found = {identity(n_axes): None}
    frontier = list(found)
    while frontier:
        reached = dict.fromkeys(step.compose(view) for view in frontier for step in generators)
        frontier = [view for view in reached if view not in found]
        found.update(dict.fromkeys(frontier))
    return tuple(found)


def _flip(axis: int, n_axes: int) -> Symmetry:
    if axis not in range(n_axes):
        raise UserError(f"flip_axes holds {axis!r}: allowed are axes 0 to {n_axes - 1} and 'all'")
    return Symmetry(tuple(range(n_axes)), tuple(other == axis for other in range(n_axes)))


def _quarter_turn(plane: Sequence[int], n_axes: int) -> Symmetry:
    if len(plane) != 2 or len({*plane} & {*range(n_axes)}) != 2:
        raise UserError(
            f"rotation90_axes holds {plane!r}: allowed are pairs of different axes from 0 to "
            f"{n_axes - 1}, as [1, 2]"
        )
    first, second = plane
    order = list(range(n_axes))
    order[first], order[second] = second, first
    return Symmetry(tuple(order), tuple(axis == first for axis in range(n_axes)))


def channel_sources(
    symmetry: Symmetry, offsets: Sequence[Sequence[int]], *, edge_side: EdgeSide
) -> tuple[tuple[int, Offset], ...]:
    """Per affinity channel: the channel to take and the vector by which its values move.

    Let `back` be the affinities of `symmetry.apply(volume)`, brought back by the inverse. Then
    channel k of the volume itself is `result[k][v] = back[source][v - shift]`; it is unknown where
    `v - shift` is outside the array. A flipped axis turns an edge (v, v - offset) into
    (v, v + offset), which is stored one offset away. The shift is therefore +offset for edges
    stored at their destination (v and v - offset), -offset for those at their source (v and
    v + offset).

    Args:
        symmetry: of the axes of the offsets.
        offsets: voxels, per channel; zero marks a channel that is no affinity.
        edge_side: where the edges are stored.

    Raises:
        UserError: the offsets are not closed under the symmetry; it names the offset.
    """
    known = [tuple(offset) for offset in offsets]
    return tuple(
        _source(symmetry, known, channel, 1 if edge_side == "destination" else -1)
        for channel in range(len(known))
    )


def _source(
    symmetry: Symmetry, offsets: list[Offset], channel: int, direction: int
) -> tuple[int, Offset]:
    offset = offsets[channel]
    image = symmetry.vector(offset)
    mirrored = tuple(-step for step in image)
    still = (0,) * len(offset)
    if image == offset:
        return channel, still
    if image in offsets:
        return offsets.index(image), still
    if mirrored in offsets:
        return offsets.index(mirrored), tuple(direction * step for step in offset)
    raise UserError(
        f"test-time view {symmetry.permutation} with flips {symmetry.flips}: affinity offset "
        f"{offset} turns into {image}, which is not among the offsets (nor is its opposite); "
        "leave out the axis or rotation, or add the offset to the target"
    )


def edge_span(size: int, step: int, *, edge_side: EdgeSide) -> slice:
    """The indices along one axis whose edge has its other end inside 0..size-1.

    Args:
        size: voxels along the axis.
        step: the offset along the axis, in voxels.
        edge_side: the edge joins v and v - step if it is stored at its destination, v and v + step
            if at its source.
    """
    towards = -step if edge_side == "destination" else step
    start = min(max(0, -towards), size)
    return slice(start, max(start, min(size, size - towards)))
