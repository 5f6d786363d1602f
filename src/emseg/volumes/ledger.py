"""Which rows of chunks of an unfinished volume are on the disk, as all its writers record it."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A finished row of chunks: its number, the hash of its voxels, when it was recorded."""

    number: int
    digest: str
    seconds: float


class Ledger:
    """The finished rows in a folder, where each writer appends lines to a file of its own.

    No line is ever changed, so that a writer that is killed spoils nothing but its own last line,
    which is then ignored, and writers on several machines need no lock.

    Attributes:
        rows: by number, as far as they are read; see `refresh`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[int, Row] = {}
        self._own = folder / f"{uuid.uuid4().hex}.jsonl"
        self._read: dict[Path, int] = {}
        self.refresh()

    def add(self, number: int, digest: str) -> None:
        """Records a row, whose voxels are on the disk."""
        row = Row(number, digest, time.time())
        self.folder.mkdir(exist_ok=True)
        with self._own.open("ab") as opened:
            opened.write(json.dumps(row).encode() + b"\n")
        self.rows[number] = row

    def refresh(self) -> list[Row]:
        """The rows that others have recorded since the last call, which are now in `rows`."""
        new = []
        for file in sorted(self.folder.glob("*.jsonl")):
            if file != self._own:
                new += [row for row in self._unread(file) if row.number not in self.rows]
                self.rows.update((row.number, row) for row in new)
        return new

    def forget(self, number: int) -> None:
        """Takes out a row whose voxels were damaged; it has to be written again."""
        del self.rows[number]

    def _unread(self, file: Path) -> Iterator[Row]:
        with file.open("rb") as opened:
            opened.seek(self._read.get(file, 0))
            for line in opened:
                if not line.endswith(b"\n"):
                    return  # being written, or cut short by a kill
                self._read[file] = self._read.get(file, 0) + len(line)
                row = _parsed(line)
                if row is not None:
                    yield row


def _parsed(line: bytes) -> Row | None:
    """The row of a line, None if it was edited to something else."""
    try:
        stored = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kinds = [type(value) for value in stored] if isinstance(stored, list) else []
    return Row(*stored) if kinds == [int, str, float] and stored[0] >= 0 else None
