"""Opens HDF5 files and follows links in them, into other files too."""

import mmap
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py

from emseg.errors import UserError
from emseg.volumes.location import require_regular

# The longest chain of links, or of nested virtual data sets: as many as HDF5 follows.
LONGEST_CHAIN = 16
# "GCOL", version 1, three reserved bytes; then the collection's size in 8 bytes.
_HEAD = b"GCOL\x01\0\0\0"
_HEAD_BYTES = 16
# An object: its number (2 bytes), references (2), reserved (4), size (8); then its bytes.
_OBJECT_BYTES = 16
# Larger files are not searched: on a network drive it would take longer than a second.
LARGEST_SEARCHED = 1 << 26


def open_hdf5(path: Path) -> h5py.File:
    """The file, opened for reading.

    Raises:
        UserError: it is missing, truncated, damaged or not an HDF5 file.
    """
    require_regular(path)
    damaged = damaged_heap(path)
    if damaged is not None:
        raise UserError(f"'{path}' is damaged: its heap has an object of no size at byte {damaged}")
    try:
        # With the default locking: HDF5 refuses to open a file twice under different flags, and
        # the user of a notebook may hold it open too.
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error)
        if "truncated" in reason:
            raise UserError(f"'{path}' is truncated: its end is missing; fetch it again") from error
        if "signature" in reason:
            raise UserError(f"'{path}' is not an HDF5 file") from error
        raise UserError(f"cannot open '{path}': {reason}") from error


def follow(path: Path, key: str, *, where: str) -> tuple[list[Path], str] | None:
    """The files on the way to the object `key`, its own file last, and its name in that file.

    None if a group has no such name. UserError for a link to a missing file, or in a circle.
    """
    files = [path]
    for _ in range(LONGEST_CHAIN + 1):
        with open_hdf5(files[-1]) as file:
            found = _first_link(file, key)
        if found is None:
            return None
        other, key, is_link = found
        if other:
            files.append(linked_file(other, files[-1], "HDF5_EXT_PREFIX", where=where))
        if not is_link:
            return files, key
    raise UserError(f"{where} leads in a circle, or through more than {LONGEST_CHAIN} links")


def data_sets(file: h5py.File) -> tuple[list[str], list[str]]:
    """The keys of all data sets, each object once, also behind links; and the broken links."""
    keys: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [(file["/"], "", 0)]
    dangling: list[str] = []
    while waiting:
        group, prefix, depth = waiting.pop(0)
        for name in _list_group(group, prefix, keys, seen):
            node = _behind(group, name)
            if node is None or depth > LONGEST_CHAIN:
                dangling.append(prefix + name)
            elif isinstance(node, h5py.Dataset) and _object(node) not in seen:
                seen.add(_object(node))
                keys.append(prefix + name)
            elif isinstance(node, h5py.Group) and _object(node) not in seen:
                waiting.append((node, f"{prefix}{name}/", depth + 1))
    return keys, dangling


def linked_file(name: str, parent: Path, variable: str, *, where: str) -> Path:
    """The file that HDF5 opens for `name`, as written in the file `parent`; UserError if none.

    Folders of the environment variable `variable` are searched first.
    """
    broken = None
    for path in _candidates(name, parent, os.environ.get(variable, "")):
        if not path.exists():
            continue
        require_regular(path)
        if h5py.is_hdf5(path):
            return path
        broken = broken or path
    if broken is not None:
        raise UserError(
            f"{where} draws from '{broken}', which is not an HDF5 file, or is cut short"
        )
    raise UserError(
        f"{where} draws from '{name}', which does not exist (looked for beside '{parent}', "
        f"in the current folder, and in those of {variable})"
    )


def _candidates(name: str, parent: Path, folders: str) -> Iterator[Path]:
    if Path(name).is_absolute():
        yield Path(name)
        name = Path(name).name
    for folder in filter(None, folders.split(":")):
        yield Path(folder.replace("${ORIGIN}", str(parent.parent))) / name
    yield parent.parent / name
    yield Path(name)
    # The file's real folder, if it was reached through file system links.
    yield Path(os.path.realpath(parent)).parent / name


def _first_link(file: h5py.File, key: str) -> tuple[str, str, bool] | None:
    """(file, key, True): the target of the first soft or external link on the way to `key`.

    The file is "" for this file. ("", key, False) if there is no link, None for a missing name.
    """
    parts = [part for part in key.split("/") if part not in ("", ".")]
    node: Any = file
    for at, part in enumerate(parts):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        rest = parts[at + 1 :]
        if link is None:
            return None
        if isinstance(link, h5py.SoftLink):
            before = [] if link.path.startswith("/") else parts[:at]
            return "", "/".join([*before, link.path, *rest]), True
        if isinstance(link, h5py.ExternalLink):
            return link.filename, "/".join([link.path, *rest]), True
        node = node[part]
    return "", "/".join(parts), False


def _behind(group: h5py.Group, name: str) -> Any:
    """What a link leads to, or None; we follow it first, because HDF5 would wait for a pipe."""
    try:
        found = follow(Path(group.file.filename), f"{group.name}/{name}", where=name)
    except UserError:
        return None
    return None if found is None else group.get(name)


def _list_group(
    group: h5py.Group, prefix: str, keys: list[str], seen: set[tuple[int, int]]
) -> list[str]:
    """The soft and external links below a group; data sets and groups seen are noted."""
    seen.add(_object(group))

    def note(name: str, node: Any) -> None:
        if _object(node) not in seen and isinstance(node, h5py.Dataset):
            keys.append(prefix + name)
        seen.add(_object(node))

    links: list[str] = []

    def note_link(name: str, link: Any) -> None:
        if not isinstance(link, h5py.HardLink):
            links.append(name)

    group.visititems(note)
    group.visititems_links(note_link)
    return links


def _object(node: Any) -> tuple[int, int]:
    facts = h5py.h5o.get_info(node.id)
    return facts.fileno, facts.addr


def damaged_heap(path: Path) -> int | None:
    """The byte at which a global heap has an object of no size, on which HDF5 would loop forever.

    A global heap holds text attributes and the mappings of virtual data sets. Format: HDF5 file
    format specification, III.E.
    """
    facts = path.stat()
    if not _HEAD_BYTES <= facts.st_size <= LARGEST_SEARCHED:
        return None
    return _search(path, (facts.st_ino, facts.st_size, facts.st_mtime_ns))


# A file is opened for each of its links; `state` makes a changed file another one.
@lru_cache(maxsize=256)
def _search(path: Path, state: tuple[int, ...]) -> int | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stored:
        start = stored.find(_HEAD)
        while start >= 0:
            size = int.from_bytes(stored[start + 8 : start + _HEAD_BYTES], "little")
            end = min(start + max(size, _HEAD_BYTES), len(stored))
            damaged = _endless_object(stored, start, end)
            if damaged is not None:
                return damaged
            start = stored.find(_HEAD, end)
    return None


def _endless_object(stored: mmap.mmap, start: int, end: int) -> int | None:
    at = start + _HEAD_BYTES
    while at + _OBJECT_BYTES <= end:
        number = int.from_bytes(stored[at : at + 2], "little")
        size = int.from_bytes(stored[at + 8 : at + _OBJECT_BYTES], "little")
        if number == 0 and size == 0:
            return at
        # Number 0 is free space, whose size includes its head.
        at += size if number == 0 else _OBJECT_BYTES + -(-size // 8) * 8
    return None
