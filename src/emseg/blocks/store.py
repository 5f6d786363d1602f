"""Stores for labelled blocks until all blocks are done and the final ids are known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from emseg.blocks.grid import Block

Facts = dict[str, np.ndarray]


class Store(Protocol):
    """Labels of blocks (uint32), and for each block arrays of facts about it.

    Attributes:
        scratch: where large temporary files may be; None: in the system's temporary folder.
    """

    scratch: Path | None

    def buffer(self, block: Block) -> np.ndarray:
        """A C-contiguous array of the block's shape to fill with labels, for `save`."""

    def save(self, block: Block, labels: np.ndarray, facts: Facts) -> None:
        """Stores the block; it is then `done`."""

    def done(self, block: Block) -> bool: ...

    def labels(self, block: Block) -> np.ndarray: ...

    def facts(self, block: Block, names: Sequence[str]) -> Facts:
        """The named arrays of the block, as far as it has them."""

    def forget_facts(self) -> None:
        """Frees facts in memory, when they are no longer needed."""


class MemoryStore:
    """Labels in one array, `array` (uint32); blocks of whole planes are filled in place."""

    scratch: Path | None = None

    def __init__(self, shape: Sequence[int]) -> None:
        self.array = np.empty(shape, np.uint32)
        self._facts: dict[tuple[int, ...], Facts] = {}

    def buffer(self, block: Block) -> np.ndarray:
        view = self.array[block.slices]
        return view if view.flags.c_contiguous else np.empty(block.shape, np.uint32)

    def save(self, block: Block, labels: np.ndarray, facts: Facts) -> None:
        if not np.may_share_memory(labels, self.array):
            self.array[block.slices] = labels
        self._facts[block.index] = facts

    def done(self, block: Block) -> bool:
        return block.index in self._facts

    def labels(self, block: Block) -> np.ndarray:
        return self.array[block.slices]

    def facts(self, block: Block, names: Sequence[str]) -> Facts:
        facts = self._facts[block.index]
        return {name: facts[name] for name in names if name in facts}

    def forget_facts(self) -> None:
        self._facts.clear()
