"""Which cells of an unfinished volume are on the disk, as all its writers record it."""

import json
import os
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Recorded(NamedTuple):
    """A finished cell: its number, the hash of its voxels, when it was recorded."""

    number: int
    digest: str
    seconds: float


class Ledger:
    """The finished cells in a folder, where each writer appends lines to a file of its own.

    Lines are only appended, so that a writer that is killed spoils nothing but its own last line,
    which is then ignored, and writers on several machines need no lock. `forget` alone replaces
    the files, before work begins.

    Attributes:
        done: the cells by number, as far as they are read; see `refresh`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: dict[int, Recorded] = {}
        self._own = folder / f"{uuid.uuid4().hex}.jsonl"
        self._read: dict[Path, int] = {}
        self.refresh()

    def add(self, number: int, digest: str) -> None:
        """Records a cell, whose voxels are on the disk."""
        cell = Recorded(number, digest, time.time())
        self._append([cell])
        self.done[number] = cell

    def refresh(self) -> list[Recorded]:
        """The cells that others have recorded since the last call, which are now in `done`."""
        new = []
        for file in sorted(self.folder.glob("*.jsonl")):
            if file != self._own:
                new += [cell for cell in self._unread(file) if cell.number not in self.done]
                self.done.update((cell.number, cell) for cell in new)
        return new

    def forget(self, numbers: Collection[int]) -> None:
        """Takes out cells with damaged voxels, for all writers; they must be written again."""
        for number in numbers:
            del self.done[number]
        others = [file for file in self.folder.glob("*.jsonl") if file != self._own]
        # Killed in between, the damaged cells are found once more.
        self._append(self.done.values())
        for file in others:
            file.unlink(missing_ok=True)

    def _append(self, cells: Iterable[Recorded]) -> None:
        self.folder.mkdir(exist_ok=True)
        with self._own.open("ab") as opened:
            opened.writelines(json.dumps(cell).encode() + b"\n" for cell in cells)

    def _unread(self, file: Path) -> Iterator[Recorded]:
        try:
            opened = file.open("rb")
        except FileNotFoundError:
            return  # replaced by another opener's `forget`
        with opened:
            # A file that was replaced begins anew.
            start = self._read.get(file, 0)
            self._read[file] = start if start <= os.fstat(opened.fileno()).st_size else 0
            opened.seek(self._read[file])
            for line in opened:
                if not line.endswith(b"\n"):
                    return  # being written, or cut short by a kill
                self._read[file] += len(line)
                cell = _parsed(line)
                if cell is not None:
                    yield cell


def _parsed(line: bytes) -> Recorded | None:
    """The cell of a line, None if it was edited to something else."""
    try:
        stored = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds = [type(value) for value in stored] if isinstance(stored, list) else []
    return Recorded(*stored) if kinds == [int, str, float] and stored[0] >= 0 else None
