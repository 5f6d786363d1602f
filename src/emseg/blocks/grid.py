"""Blocks of a volume, and the voxels around them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

Index = tuple[int, int, int]


@dataclass(frozen=True)
class Block:
    """One cell of a grid.

    Attributes:
        index: its place in the grid.
        start, stop: its voxels, in the volume, from `start` up to `stop`.
    """

    index: Index
    start: Index
    stop: Index

    @property
    def shape(self) -> Index:
        return _three(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def before(self, axis: int) -> Index | None:
        """The place in the grid of the block before this one, None at the volume's face."""
        if self.start[axis] == 0:
            return None
        return _three(at - (a == axis) for a, at in enumerate(self.index))

    def grown(self, shape: Sequence[int]) -> tuple[Index, Index]:
        """Start and stop of the block, extended by one voxel on each side within the volume."""
        start = _three(max(a - 1, 0) for a in self.start)
        return start, _three(min(b + 1, n) for b, n in zip(self.stop, shape, strict=True))


def grid(shape: Sequence[int], block_shape: Sequence[int]) -> list[Block]:
    """Blocks of `block_shape` that cover the volume once, in C order; the last ones are smaller."""
    counts = [-(-size // step) for size, step in zip(shape, block_shape, strict=True)]
    blocks = []
    for index in itertools.product(*map(range, counts)):
        start = _three(at * step for at, step in zip(index, block_shape, strict=True))
        ends = zip(start, block_shape, shape, strict=True)
        blocks.append(Block(_three(index), start, _three(min(a + s, n) for a, s, n in ends)))
    return blocks


def slab_shape(
    shape: Sequence[int], *, bytes_per_voxel: int, memory: int, threads: int, aligned: int = 1
) -> Index:
    """The shape (z, y, x) of slabs of whole planes, as thick as memory and threads allow.

    Thick ones are better, since each block also reads a plane on each side. At least one plane.

    Args:
        shape: voxels of the volume.
        bytes_per_voxel: what one voxel of a slab needs.
        memory: bytes for the slabs of all threads together.
        threads: a slab is at most a thread's share of the planes thick, rounded up.
        aligned: slabs that can be so thick are a multiple of so many planes (of chunks in a file).
    """
    depth, height, width = shape
    fits = memory // (height * width * bytes_per_voxel * threads)
    thickness = max(1, min(-(-depth // threads), fits))
    if thickness >= aligned:
        thickness -= thickness % aligned
    return thickness, height, width


def _three(values) -> Index:
    first, second, third = values
    return first, second, third
