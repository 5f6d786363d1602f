"""Which rows of chunks of an unfinished volume are on the disk, as all its writers record it."""

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """A finished row of chunks: its number, the hash of its voxels, when it was recorded."""

    number: int
    digest: str
    seconds: float


class Ledger:
    """The finished rows in a folder, where each writer appends lines to a file of its own.

    Lines are only appended, so that a writer that is killed spoils nothing but its own last line,
    which is then ignored, and writers on several machines need no lock. `forget` alone replaces
    the files, before work begins.

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
        self._append([row])
        self.rows[number] = row

    def refresh(self) -> list[Row]:
        """The rows that others have recorded since the last call, which are now in `rows`."""
        new = []
        for file in sorted(self.folder.glob("*.jsonl")):
            if file != self._own:
                new += [row for row in self._unread(file) if row.number not in self.rows]
                self.rows.update((row.number, row) for row in new)
        return new

    def forget(self, numbers: Sequence[int]) -> None:
        """Takes out rows whose voxels were damaged, for all writers; they must be written again."""
        for number in numbers:
            del self.rows[number]
        others = [file for file in self.folder.glob("*.jsonl") if file != self._own]
        # Killed in between, the damaged rows are found once more.
        self._append(self.rows.values())
        for file in others:
            file.unlink(missing_ok=True)

    def _append(self, rows: Iterable[Row]) -> None:
        self.folder.mkdir(exist_ok=True)
        with self._own.open("ab") as opened:
            opened.writelines(json.dumps(row).encode() + b"\n" for row in rows)

    def _unread(self, file: Path) -> Iterator[Row]:
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
