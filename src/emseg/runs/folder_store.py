"""Labelled blocks on the disk, so that a killed decode larger than memory can continue."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.store import Facts
from emseg.volumes.atomic import discard, replacing, writing

# Other exceptions of a damaged archive of arrays.
BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
CHECKSUM = "checksum"


class FolderStore:
    """Blocks as files of a folder, each complete or absent; a `Store`.

    Args:
        folder: blocks lie in a folder below it, named by the purpose.
        purpose: plain containers, all that determines the labels. Blocks of an earlier, killed run
            count as done if theirs was the same, else they are deleted.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, purpose: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(purpose, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder / name
        self.scratch: Path | None = self.folder
        with writing(folder):
            for other in folder.iterdir() if folder.is_dir() else ():
                if other.name != name:
                    discard(other)
            self.folder.mkdir(parents=True, exist_ok=True)

    def buffer(self, block: Block) -> np.ndarray:
        return np.empty(block.shape, np.uint32)

    def save(self, block: Block, labels: np.ndarray, facts: Facts) -> None:
        with replacing(self._path(block, "labels")) as partial, partial.open("wb") as file:
            np.save(file, labels)
        # The facts are written last: they mark the block as done.
        with replacing(self._path(block, "facts")) as partial, partial.open("wb") as file:
            np.savez(file, **{**facts, CHECKSUM: np.array(_checksum(labels, facts))})

    def has(self, block: Block) -> bool:
        """Whether the block was saved; see `done`."""
        return self._path(block, "facts").exists()

    def done(self, block: Block) -> bool:
        """Whether the block's files exist and hold what was stored; reads them completely."""
        try:
            with np.load(self._path(block, "facts")) as file:
                facts = {name: file[name] for name in file}
            labels = np.load(self._path(block, "labels"))
            written = int(facts.pop(CHECKSUM))
            return written == _checksum(labels, facts) and labels.shape == block.shape
        # A file may be truncated, of another kind, or edited.
        except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, *BROKEN):
            return False

    def labels(self, block: Block) -> np.ndarray:
        return np.load(self._path(block, "labels"))

    def facts(self, block: Block, names: Sequence[str]) -> Facts:
        with np.load(self._path(block, "facts")) as file:
            return {name: file[name] for name in names if name in file}

    def forget_facts(self) -> None:
        """Does nothing: a killed run continues from the facts on the disk."""

    def _path(self, block: Block, kind: str) -> Path:
        return (
            self.folder / f"{'_'.join(map(str, block.index))}.{'npz' if kind == 'facts' else 'npy'}"
        )


def _checksum(labels: np.ndarray, facts: Facts) -> int:
    """Over the types, shapes and bytes of the labels and all facts."""
    found = 0
    for name, array in sorted([("", labels), *facts.items()]):
        description = f"{name} {array.dtype.str} {array.shape}".encode()
        found = zlib.crc32(np.ascontiguousarray(array), zlib.crc32(description, found))
    return found
