"""The arrays behind volumes: what each format fills in, and views of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emseg.volumes.axes import NAMING


class StoredArray(Protocol):
    """What a volume reads from: an array in memory (gives views) or a file (gives new arrays)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray: ...


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


class StoredSource:
    """A stored array in a file or folder, and what its format says of it; each format is one.

    Attributes:
        path, key: the file or folder, or the URL, and the array in it.
        shape, dtype: of all stored axes, in stored order.
        chunks: None if it is not stored in chunks.
        attributes: plain values.
        named_axes: axis names outside the attributes, by their place in the file.
        state: of what is at a URL, in place of `files`: by what a change of it is noticed.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None = None
    attributes: dict[str, Any]
    named_axes: dict[str, Any]
    state: dict[str, str]

    def __init__(self, path: Path | str, key: str) -> None:
        self.path, self.key = path, key

    @staticmethod
    def keys(path: Path) -> list[str]:
        """The keys of all arrays in the file."""
        return [""]

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        raise NotImplementedError

    def files(self) -> list[Path]:
        """Every file that it reads from, its own first."""
        raise NotImplementedError

    def presence(self) -> list[Presence]:
        """How much is stored, and of the sources of a virtual data set; empty if all must be."""
        return []

    def stated_axes(self) -> dict[str, Any]:
        """What the file says about the axes, by the place in the file."""
        said = {name: self.attributes[name] for name in NAMING if name in self.attributes}
        return {**self.named_axes, **said}


@dataclass(frozen=True)
class Arranged:
    """A stored array whose axes are seen in the `order` given, each by its stored number.

    None stands for an axis of length 1 that is not stored; stored axes that are not in `order` have
    the length 1 and are left out.
    """

    stored: StoredArray
    order: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(1 if axis is None else self.stored.shape[axis] for axis in self.order)

    @property
    def dtype(self) -> np.dtype:
        return self.stored.dtype

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        parts = [slice(0, 1)] * len(self.stored.shape)
        for axis, part in zip(self.order, region, strict=True):
            if axis is not None:
                parts[axis] = part
        return _in_order(self.stored[tuple(parts)], self.order)


@dataclass(frozen=True)
class Selected:
    """Some channels, the first axis, of a stored array, each read by itself."""

    stored: StoredArray
    channels: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.channels), *self.stored.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return self.stored.dtype

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        channels = self.channels[region[0]]
        out = np.empty([len(channels), *(r.stop - r.start for r in region[1:])], self.dtype)
        for place, channel in zip(out, channels, strict=True):
            place[...] = self.stored[(slice(channel, channel + 1), *region[1:])][0]
        return out


def arranged(source: StoredArray, order: Sequence[int | None]) -> StoredArray:
    """The source with its axes in this order; an array in memory stays one, as a view."""
    order = tuple(order)
    if order == tuple(range(len(source.shape))):
        return source
    if isinstance(source, np.ndarray):
        return _in_order(source, order)
    if isinstance(source, Arranged):
        order = tuple(None if axis is None else source.order[axis] for axis in order)
        source = source.stored
    return Arranged(source, order)


def _in_order(array: np.ndarray, order: Sequence[int | None]) -> np.ndarray:
    seen = [axis for axis in order if axis is not None]
    left_out = [axis for axis in range(array.ndim) if axis not in seen]
    array = array.transpose([*seen, *left_out])[(..., *[0] * len(left_out))]
    return array[tuple(np.newaxis if axis is None else slice(None) for axis in order)]
