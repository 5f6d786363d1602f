"""The cells of a volume: boxes that are written, hashed and recorded one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

# First voxels along the last two axes, and those after the last: ((y, y), (x, x)).
Area = tuple[tuple[int, int], tuple[int, int]]
# About how long a cell is across the first axis. A cell of all channels must fit the memory.
SIDE = 1024


@dataclass(frozen=True)
class Cells:
    """Equal boxes that cover a volume, those at the ends smaller.

    They are numbered in C order. All cells with the same voxels along the first spatial axis are a
    row.

    Attributes:
        shape: voxels of the volume (Z, Y, X).
        size: of a cell.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int], chunks: Sequence[int]) -> "Cells":
        """Cells of whole chunks, as thick as a chunk; a small section is one cell.

        Args:
            shape: (C?, Z, Y, X).
            chunks: as `shape`.
        """
        across = []
        for length, chunk in zip(shape[-2:], chunks[-2:], strict=True):
            part = -(-length // max(1, round(length / SIDE)))
            across.append(min(-(-part // chunk) * chunk, length))
        return cls(tuple(shape[-3:]), (chunks[-3], *across))

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return -(-self.shape[0] // self.size[0])

    @property
    def section(self) -> Area:
        """All of a section."""
        return (0, self.shape[1]), (0, self.shape[2])

    @cached_property
    def areas(self) -> list[Area]:
        """The area of each cell of a row."""
        (_, height, width), (_, rows, columns) = self.size, self.shape
        return [
            ((y, min(y + height, rows)), (x, min(x + width, columns)))
            for y in range(0, rows, height)
            for x in range(0, columns, width)
        ]

    def of_row(self, row: int, area: Area) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """The number and the voxels (z, y, x) of each cell of a row that lies in the area."""
        first, areas = row * self.size[0], self.areas
        z = slice(first, min(first + self.size[0], self.shape[0]))
        for number, spans in enumerate(areas, row * len(areas)):
            pairs = zip(spans, area, strict=True)
            if all(start <= a and b <= stop for (a, b), (start, stop) in pairs):
                yield number, (z, *(slice(*span) for span in spans))

    def __len__(self) -> int:
        return self.rows * len(self.areas)

    def __iter__(self) -> Iterator[tuple[int, tuple[slice, ...]]]:
        for row in range(self.rows):
            yield from self.of_row(row, self.section)
