"""Damage in the global heaps of HDF5 files, on which HDF5 (2.0.0 too) would loop forever.

A global heap holds text attributes and the mappings of virtual data sets. Format: HDF5 file format
specification, III.E.
"""

import mmap
from functools import lru_cache
from pathlib import Path

# "GCOL", version 1, three reserved bytes; then the collection's size in 8 bytes.
_HEAD = b"GCOL\x01\0\0\0"
_HEAD_BYTES = 16
# An object: its number (2 bytes), references (2), reserved (4), size (8); then its bytes.
_OBJECT_BYTES = 16
# Larger files are not searched: on a network drive it would take longer than a second.
LARGEST_SEARCHED = 1 << 26


def damaged_heap(path: Path) -> int | None:
    """The byte at which a global heap has an endless object, None if there is no such object."""
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
