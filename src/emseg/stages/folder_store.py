"""Labelled blocks on the disk, so that a decode larger than memory goes on where it was killed."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.store import Facts
from emseg.volumes.atomic import discard, replacing, writing


class FolderStore:
    """Blocks as files of a folder, each there as a whole or not at all.

    What an earlier, killed run left in the folder counts as done when it was kept for the same
    `purpose` (plain containers: all that decides the labels), else it is thrown away.
    """

    def __init__(self, folder: Path, *, purpose: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(purpose, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder / name
        with writing(folder):
            for other in folder.iterdir() if folder.is_dir() else ():
                if other.name != name:
                    discard(other)
            self.folder.mkdir(parents=True, exist_ok=True)

    def room(self, block: Block) -> np.ndarray:
        return np.empty(block.shape, np.uint32)

    def keep(self, block: Block, labels: np.ndarray, facts: Facts) -> None:
        with replacing(self._path(block, "labels")) as partial, partial.open("wb") as file:
            np.save(file, labels)
        # The facts come last: they say that the block is done.
        with replacing(self._path(block, "facts")) as partial, partial.open("wb") as file:
            np.savez(file, **facts)

    def done(self, block: Block) -> bool:
        """True when the block's files are there and whole, as far as their heads tell."""
        try:
            with np.load(self._path(block, "facts")) as facts:
                whole = "first" in facts
            labels = np.load(self._path(block, "labels"), mmap_mode="r")
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return False
        return whole and labels.shape == block.shape

    def labels(self, block: Block) -> np.ndarray:
        return np.load(self._path(block, "labels"))

    def facts(self, block: Block, names: Sequence[str]) -> Facts:
        with np.load(self._path(block, "facts")) as kept:
            return {name: kept[name] for name in names if name in kept}

    def forget_facts(self) -> None:
        """Nothing: facts on the disk are what a killed run goes on from."""

    def _path(self, block: Block, kind: str) -> Path:
        return (
            self.folder / f"{'_'.join(map(str, block.index))}.{'npz' if kind == 'facts' else 'npy'}"
        )
