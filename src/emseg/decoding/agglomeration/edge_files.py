"""Edges of a region graph, in files where they are more than the memory holds."""

import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emseg.kernels.edge_sums import add_up, order_of
from emseg.kernels.region_edges import EDGE
from emseg.volumes.atomic import writing

# Files that share out the fragments, each of which is added up in memory.
_FILES = 128
_AT_ONCE = 1 << 20


class Edges:
    """Collects the edges of blocks, some of which are of one pair of fragments.

    Args:
        fragments: how many there are.
        most: edges that the memory holds; None: any number.
        folder: where files may be made; None: the system's temporary folder. They have no names,
            and end with this object.

    Attributes:
        total: edges so far.
    """

    def __init__(self, fragments: int, *, most: int | None, folder: Path | None) -> None:
        self.total = 0
        self._fragments, self._most, self._folder = fragments, most, folder
        self._parts: list[np.ndarray] = []
        self._files: list[BinaryIO] = []
        self._opened = ExitStack()

    def add(self, edges: np.ndarray) -> None:
        """Adds EDGEs, u <= v.

        Raises:
            UserError: the disk is full.
        """
        self.total += len(edges)
        self._parts.append(edges)
        if self._files or (self._most is not None and self.total > self._most):
            with self._writing():
                self._spill()

    def collected(self) -> np.ndarray:
        """All edges as they were added; they must be in memory."""
        assert not self._files
        parts = [part for part in self._parts if len(part)]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, EDGE), *parts])

    def added_up(self) -> np.ndarray:
        """The edges sorted by (u, v), those of one pair added up, those within one left out.

        An `np.memmap` if they did not fit the memory.

        Raises:
            UserError: the disk is full.
        """
        if not self._files:
            return added_up(self.collected(), self._fragments)[0]
        with self._opened, self._writing():
            return in_file((self._taken(file) for file in self._files), EDGE, self._folder)

    def _spill(self) -> None:
        if not self._files:
            self._files = [
                self._opened.enter_context(tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115
                for _ in range(_FILES)
            ]
        width = self._fragments // _FILES + 1
        for part in self._parts:
            for first in range(0, len(part), _AT_ONCE):
                edges = part[first : first + _AT_ONCE]
                of_file = (edges["u"] // width).astype(np.uint8)
                edges = edges[np.argsort(of_file, kind="stable")]
                ends = np.cumsum(np.bincount(of_file, minlength=_FILES))
                for file, own in zip(self._files, np.split(edges, ends[:-1]), strict=True):
                    own.tofile(file)
        self._parts.clear()

    def _taken(self, file: BinaryIO) -> np.ndarray:
        file.seek(0)
        edges = np.fromfile(file, EDGE)
        file.truncate(0)
        return added_up(edges, self._fragments)[0]

    def _writing(self) -> AbstractContextManager[None]:
        return writing(self._folder or Path(tempfile.gettempdir()))


def added_up(edges: np.ndarray, fragments: int) -> tuple[np.ndarray, np.ndarray]:
    """The edges sorted by (u, v), those of one pair added up, and the place of each edge there.

    Edges within one fragment are left out; their place is -1.
    """
    # Arrays are made by numpy, since compiled code gets memory in small pages.
    places, order = np.empty(len(edges), np.int32), np.empty(len(edges), np.int32)
    order_of(edges, np.zeros(fragments + 2, np.int32), places, order)
    added = np.empty_like(edges)
    count = add_up(edges, order, added, places)
    added.resize(count, refcheck=False)  # without a copy
    return added, places


def in_file(pieces: Iterable[np.ndarray], dtype: np.dtype, folder: Path | None) -> np.ndarray:
    """The pieces one after the other in a file without a name, as an array that may be written to.

    Raises:
        OSError: of the disk (full, say).
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        for piece in pieces:
            piece.tofile(file)
        size = file.seek(0, 2)
        return np.memmap(file, dtype, "r+") if size else np.empty(0, dtype)
