"""The array behind a volume, by the format of its file."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from emseg.errors import UserError
from emseg.volumes.axes import NAMING
from emseg.volumes.damage import one_line
from emseg.volumes.location import Location, require_there


class StoredArray(Protocol):
    """What a volume reads from: an array in memory (gives views) or a file (gives new arrays)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray: ...


class StoredSource(StoredArray, Protocol):
    """A stored array in a file: its key, its attributes and its chunks.

    `named_axes` are axis names outside its attributes, by their place in the file.
    """

    key: str
    attributes: dict[str, Any]
    named_axes: dict[str, Any]
    chunks: tuple[int, ...] | None

    def files(self) -> list[Path]:
        """Every file that it reads from."""
        ...


def stated_axes(source: StoredSource) -> dict[str, Any]:
    """What a file says about the axes of an array, by the place in the file."""
    said = {name: source.attributes[name] for name in NAMING if name in source.attributes}
    return {**source.named_axes, **said}


def open_source(location: Location) -> StoredSource:
    """The stored array; UserError if file or key are missing, broken, empty or not numbers."""
    source = open_stored(location)
    check_array(source, where=f"'{location}'")
    return source


def open_stored(location: Location) -> StoredSource:
    """The stored array, of any type and shape."""
    require_there(location)
    with one_line(f"cannot open '{location}' as {location.format}"):
        return _open(location)


def check_array(source: StoredArray, *, where: str) -> None:
    """Raises UserError for an array without voxels or with values that are not numbers."""
    if source.dtype.kind not in "biuf":
        raise UserError(f"{where} holds {source.dtype}, not numbers")
    if 0 in source.shape:
        raise UserError(f"{where} is empty: shape {tuple(source.shape)}")


def _open(location: Location) -> StoredSource:
    # A format's library is imported only when a file of that format is opened.
    if location.format == "hdf5":
        from emseg.volumes.hdf5 import Hdf5Array

        found = Hdf5Array(location.path, location.key)
        found.require_filters()
        return found
    if location.format == "zarr":
        from emseg.volumes.ome_zarr import ZarrArray

        return ZarrArray(location.path, location.key)
    if location.format == "sections":
        from emseg.volumes.sections import SectionFolder

        return SectionFolder(location.path, location.key)
    from emseg.volumes.tiff import TiffStack

    if location.key:
        raise UserError(f"'{location.path}' is a TIFF file: it holds no '{location.key}'")
    return TiffStack(location.path)
