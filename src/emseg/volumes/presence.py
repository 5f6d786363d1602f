"""How much of an array is stored: chunks that are absent are read as the fill value."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import h5py

from emseg.volumes.damage import one_line
from emseg.volumes.folders import files_below
from emseg.volumes.hdf5_links import open_hdf5
from emseg.volumes.hdf5_sources import drawn_from, goes_on
from emseg.volumes.location import parse_location
from emseg.volumes.source import open_stored

# Most chunk files that are counted; more would take too long on a network file system.
MOST_COUNTED = 1_000_000


@dataclass(frozen=True)
class Presence:
    """`present` of the `total` parts of an array are stored; `parts` says what they are.

    Chunks; shards of zarr 3, which have several chunks in a file; voxels of an array in one piece
    or of a virtual data set. `at_least` if counting stopped early.
    """

    parts: str
    present: int
    total: int
    at_least: bool = False

    def __str__(self) -> str:
        more = "at least " if self.at_least else ""
        return f"{self.parts}: {more}{self.present} of {self.total} present"

    @property
    def absent(self) -> int:
        """The number of parts that are not stored, 0 if they were not all counted."""
        return 0 if self.at_least else self.total - self.present


def presence(location: str | Path) -> list[Presence]:
    """What is stored of the array at a location, and of the sources of a virtual data set.

    Empty for TIFF. UserError as for open_volume, and for a broken link among the chunks.
    """
    parsed = parse_location(location)
    key = open_stored(parsed).key
    if parsed.format == "hdf5":
        with one_line(f"cannot read '{parsed}'"):
            return _in_hdf5(parsed.path, key)
    return [_in_zarr(parsed.path / key)] if parsed.format == "zarr" else []


def _in_hdf5(path: Path, key: str) -> list[Presence]:
    with open_hdf5(path) as file:
        found = _of_data_set(file[key])
    inner: dict[str, list[Presence]] = {}
    for source, name in drawn_from(path, key).sources:
        with open_hdf5(source) as file:
            one = _of_data_set(file[name])
        inner.setdefault(one.parts, []).append(one)
    sums = [
        Presence(f"{parts} of sources", sum(i.present for i in ones), sum(i.total for i in ones))
        for parts, ones in inner.items()
    ]
    return [found, *sums]


def _of_data_set(node: h5py.Dataset) -> Presence:
    if node.chunks is not None:
        return Presence("chunks", node.id.get_num_chunks(), _grid_size(node.shape, node.chunks))
    if node.is_virtual:
        return Presence("voxels", _mapped(node), node.size)
    # HDF5 allocates an array in one piece when the first voxel is written.
    return Presence("voxels", node.size if node.id.get_storage_size() else 0, node.size)


def _mapped(node: h5py.Dataset) -> int:
    """The voxels of a virtual data set that have a source."""
    spaces = [entry.vspace for entry in node.virtual_sources()]
    # An unlimited one extends as far as its sources do, which the shape says.
    if any(goes_on(space) or space.get_select_type() == h5py.h5s.SEL_ALL for space in spaces):
        return node.size
    return reduce(lambda one, two: one.combine_select(two), spaces).get_select_npoints()


def _in_zarr(folder: Path) -> Presence:
    from emseg.volumes.ome_zarr import open_array

    array = open_array(folder)
    with one_line(f"cannot read '{folder}'"):
        sharded = array.shards is not None
        grid = _grid(array.shape, array.shards or array.chunks)
        # As c/0/0/0, or 0.0.0.
        first = array.metadata.encode_chunk_key((0,) * len(grid))
    pattern = re.compile(re.escape(first).replace("0", r"(\d+)"))
    present, total = 0, math.prod(grid)
    for name in files_below(folder):
        found = pattern.fullmatch(name)
        if found and all(int(at) < size for at, size in zip(found.groups(), grid, strict=True)):
            present += 1
        if present == MOST_COUNTED and present < total:
            return Presence("shards" if sharded else "chunks", present, total, at_least=True)
    return Presence("shards" if sharded else "chunks", present, total)


def _grid(shape: Sequence[int], chunks: Sequence[int]) -> list[int]:
    return [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]


def _grid_size(shape: Sequence[int], chunks: Sequence[int]) -> int:
    return math.prod(_grid(shape, chunks))
