"""The files that a data set of an HDF5 file reads from: links, virtual data sets, raw storage.

HDF5 silently reads zeros if a source of a virtual data set is missing or a raw file ends early. So
all of them are checked before anything is read, in the places where HDF5 looks.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from emseg.errors import UserError
from emseg.volumes.hdf5_links import LONGEST_CHAIN, follow, linked_file, open_hdf5

# Blocks that are looked for after the last one of a numbered series: is it a gap or the end?
BLOCKS_BEYOND = 100


@dataclass
class Drawn:
    """What a data set reads from: `files`, its own first, each once, and `sources`.

    `sources` are (file, key) of the data sets that a virtual one contains, at any depth.
    """

    files: list[Path] = field(default_factory=list)
    sources: list[tuple[Path, str]] = field(default_factory=list)

    def check_files(self, where: str) -> None:
        """Raises UserError for a file that was deleted since; HDF5 would read zeros for it."""
        gone = next((path for path in self.files if not path.exists()), None)
        if gone is not None:
            raise UserError(f"{where} draws from '{gone}', which does not exist any more")

    def _add(self, files: list[Path]) -> None:
        self.files += [path for path in files if path not in self.files]


def drawn_from(path: Path, key: str) -> Drawn:
    """The files and data sets that the data set `key` of the file reads from.

    UserError for one that is missing, no HDF5 file or too small, or that contains itself.
    """
    drawn = Drawn([path])
    _trace(path, key, drawn, (), where=f"'{path}:{key}'")
    return drawn


@dataclass(frozen=True)
class _Entry:
    """What one entry of a virtual data set reads: names may number blocks with `%b`."""

    file: str
    key: str
    blocks: int | None
    end: tuple[int, ...] | None
    voxels: int | None


def _trace(
    path: Path, key: str, drawn: Drawn, above: tuple[tuple[Path, str], ...], *, where: str
) -> tuple[int, ...] | None:
    """The shape of the data set, None if it does not exist; adds what it reads from."""
    found = follow(path, key, where=where)
    if found is None:
        return None
    drawn._add(found[0])
    own = (found[0][-1], found[1])
    if own in above or len(above) > LONGEST_CHAIN:
        raise UserError(f"{where} is a virtual data set that is made of itself")
    with open_hdf5(own[0]) as file:
        node = file[own[1] or "/"]
        if not isinstance(node, h5py.Dataset):
            return None
        shape = tuple(node.shape or ())
        drawn._add(_raw_files(node, where))
        entries = [*_entries(node)] if node.is_virtual else []
    for entry in entries:
        _trace_entry(entry, drawn, (*above, own), where=where)
    return shape


def _trace_entry(
    entry: _Entry, drawn: Drawn, above: tuple[tuple[Path, str], ...], *, where: str
) -> None:
    own = above[-1][0]
    # A numbered series without its first block is empty, as if its files had been moved.
    numbers = [None] if entry.blocks is None else range(max(1, entry.blocks))
    for number in numbers:
        name, key = (_numbered(text, number) for text in (entry.file, entry.key))
        source = own if name == "." else linked_file(name, own, "HDF5_VDS_PREFIX", where=where)
        if (source, key) in drawn.sources and (source, key) not in above:
            continue
        shape = _trace(source, key, drawn, above, where=where)
        if shape is None:
            raise UserError(f"{where} draws from '{source}:{key}', but there is no such data set")
        _check_size(shape, entry, where=f"{where} draws from '{source}:{key}'")
        drawn.sources.append((source, key))
    if entry.blocks is not None:
        _check_gap(entry, own, where)


def _check_size(shape: tuple[int, ...], entry: _Entry, *, where: str) -> None:
    if entry.voxels is not None and entry.voxels != math.prod(shape):
        raise UserError(f"{where} of shape {shape}, and needs {entry.voxels} voxels of it")
    if entry.end is not None and (
        len(entry.end) != len(shape) or any(np.greater(entry.end, shape))
    ):
        raise UserError(f"{where} of shape {shape}, and needs it up to {entry.end}")


def _check_gap(entry: _Entry, own: Path, where: str) -> None:
    """Raises UserError if blocks exist after a missing one: the data set would end before it."""
    assert entry.blocks is not None
    for number in range(entry.blocks, entry.blocks + BLOCKS_BEYOND):
        name, key = (_numbered(text, number) for text in (entry.file, entry.key))
        try:
            source = own if name == "." else linked_file(name, own, "HDF5_VDS_PREFIX", where=where)
            there = follow(source, key, where=where) is not None
        except UserError:
            there = False
        if there:
            first = tuple(_numbered(text, entry.blocks) for text in (entry.file, entry.key))
            raise UserError(
                f"{where} ends before '{first[0]}:{first[1]}', which does not exist, but "
                f"'{name}:{key}' does"
            )


def _entries(node: h5py.Dataset) -> Iterator[_Entry]:
    for entry in node.virtual_sources():
        counted = any(_counts(text) for text in (entry.file_name, entry.dset_name))
        chosen, all_of_it = entry.src_space, h5py.h5s.SEL_ALL
        kind, limited = chosen.get_select_type(), not goes_on(entry.vspace)
        yield _Entry(
            entry.file_name,
            entry.dset_name,
            blocks=_block_count(entry.vspace, node.shape) if counted else None,
            end=tuple(last + 1 for last in chosen.get_select_bounds()[1])
            if kind == h5py.h5s.SEL_HYPERSLABS and not goes_on(chosen)
            else None,
            # For a source that is used as a whole the entry does not store its size.
            voxels=entry.vspace.get_select_npoints() if kind == all_of_it and limited else None,
        )


def goes_on(space: h5py.h5s.SpaceID) -> bool:
    """Whether a selection is unlimited: it extends as far as the sources do."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS or not space.is_regular_hyperslab():
        return False
    _, _, count, block = space.get_regular_hyperslab()
    return h5py.h5s.UNLIMITED in (*count, *block)


def _block_count(space: h5py.h5s.SpaceID, shape: tuple[int, ...]) -> int:
    start, stride, count, _ = space.get_regular_hyperslab()
    axis = count.index(h5py.h5s.UNLIMITED)
    return max(0, -(-(shape[axis] - start[axis]) // stride[axis]))


def _counts(text: str) -> bool:
    return "b" in re.findall("%(.)", text)


def _numbered(text: str, number: int | None) -> str:
    """The name as HDF5 reads it: %b is the number of the block, %% a percent sign."""
    return re.sub("%([%b])", lambda found: "%" if found[1] == "%" else str(number), text)


def _raw_files(node: h5py.Dataset, where: str) -> list[Path]:
    """The raw files of a data set with external storage; UserError for one missing or too short."""
    files, left = [], node.size * node.dtype.itemsize
    folder = os.environ.get("HDF5_EXTFILE_PREFIX", "").replace(
        "${ORIGIN}", str(Path(node.file.filename).parent)
    )
    for name, offset, size in node.external or ():
        path, needed = Path(folder) / name, offset + min(size, left)
        if not path.is_file():
            raise UserError(f"{where} draws from '{path}', which is no file that is there")
        if path.stat().st_size < needed:
            raise UserError(
                f"{where} draws from '{path}', which has {path.stat().st_size} of the "
                f"{needed} bytes that are needed"
            )
        left -= min(size, left)
        files.append(path)
    return files
