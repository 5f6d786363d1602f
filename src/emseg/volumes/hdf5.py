"""Data sets in HDF5 files, read region by region."""

import json
import math
import os
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emseg.errors import UserError
from emseg.volumes.attributes import plain
from emseg.volumes.damage import one_line
from emseg.volumes.hdf5_links import data_sets, follow, open_hdf5
from emseg.volumes.hdf5_sources import drawn_from, goes_on
from emseg.volumes.hdf5_writing import JSON_NAMES
from emseg.volumes.location import pick_dataset
from emseg.volumes.source import Presence, StoredSource

# Filters in hdf5plugin, by their numbers.
_FILTERS = {
    307: "bzip2",
    32000: "lzf",
    32001: "blosc",
    32004: "lz4",
    32008: "bitshuffle",
    32013: "zfp",
    32015: "zstd",
    32017: "sz",
    32018: "fcidecomp",
    32024: "sz3",
    32026: "blosc2",
    32028: "sperr",
}


class Hdf5Array(StoredSource):
    """A data set of an HDF5 file, opened lazily and anew in every process."""

    def __init__(self, path: Path, key: str) -> None:
        file = open_hdf5(path)
        super().__init__(path, _find(file, key, path))
        self._where = f"'{path}:{self.key}'"
        # Before opening it: HDF5 crashes on a virtual data set that contains itself.
        self._drawn = drawn_from(path, self.key)
        self._dataset: h5py.Dataset | None = file[self.key]
        self._process = os.getpid()
        self.shape = tuple(self._dataset.shape or ())
        self.dtype = self._dataset.dtype
        self.chunks = self._dataset.chunks
        self.attributes = _read_attributes(self._dataset)
        self.named_axes = _named_axes(self._dataset)
        _require_filters(self._dataset, self._where)

    @staticmethod
    def keys(path: Path) -> list[str]:
        """The keys of all data sets, then those of broken links."""
        with open_hdf5(path) as file:
            found, dangling = data_sets(file)
        return found + dangling

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        # A handle must not cross a fork: the library's state would be shared with the parent.
        with one_line(f"cannot read {self._where}"):
            if self._dataset is None or self._process != os.getpid():
                self._dataset = open_hdf5(self.path)[self.key]
                self._process = os.getpid()
                _require_filters(self._dataset, self._where)
            block = self._dataset[region]
        if len(self._drawn.files) > 1:
            self._drawn.check_files(self._where)
        return block

    def files(self) -> list[Path]:
        """The files that it reads from, its own first."""
        return self._drawn.files

    def presence(self) -> list[Presence]:
        """How much of it is stored, and of the data sets that a virtual one contains."""
        with one_line(f"cannot read {self._where}"):
            found = _stored_part(self.path, self.key)
            inner: dict[str, list[Presence]] = {}
            for source, name in self._drawn.sources:
                one = _stored_part(source, name)
                inner.setdefault(one.parts, []).append(one)
        sums = [
            Presence(f"{name} of sources", sum(i.present for i in ones), sum(i.total for i in ones))
            for name, ones in inner.items()
        ]
        return [found, *sums]


def _find(file: h5py.File, key: str, path: Path) -> str:
    # For a key that leads to a missing file the error names that file, not an unknown key.
    found = follow(path, key, where=f"'{path}:{key}'") if key else None
    if found is not None and isinstance(file.get(key), h5py.Dataset):
        return key
    keys, dangling = data_sets(file)
    # If there is nothing else, a broken link may be what is meant.
    return pick_dataset(keys or dangling, key, where=path)


def _named_axes(node: h5py.Dataset) -> dict[str, Any]:
    """Axis names outside the attributes: those of the data sets that are dimension scales."""
    if "DIMENSION_LIST" not in node.attrs:
        return {}
    found = []
    for scales in node.dims:
        name = ""
        with suppress(RuntimeError, KeyError, ValueError):  # A scale may be deleted.
            # As in netCDF, its name is that of its data set.
            name = str(scales[0].name).rpartition("/")[2] if len(scales) else ""
        found.append(name)
    return {"dimension scales": found}


def _require_filters(node: h5py.Dataset, where: str) -> None:
    filters = node.id.get_create_plist()
    numbers = [filters.get_filter(at)[0] for at in range(filters.get_nfilters())]
    missing = [number for number in numbers if not h5py.h5z.filter_avail(number)]
    if not missing:
        return
    # It registers its filters when it is imported.
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401
    for number in missing:
        if not h5py.h5z.filter_avail(number):
            name = f"{_FILTERS[number]} (" if number in _FILTERS else "("
            raise UserError(
                f"cannot read {where}: it is compressed with {name}HDF5 filter {number}), which "
                "is not installed: pip install hdf5plugin"
            )


def _read_attributes(node: h5py.Dataset) -> dict[str, Any]:
    encoded = json.loads(node.attrs.get(JSON_NAMES, "[]"))
    found = {}
    for name in node.attrs:
        if name == JSON_NAMES:
            continue
        # Dimension scales add references to data sets; outside the file they mean nothing. Other
        # types of HDF5, such as bit fields, have no equivalent in numpy.
        with suppress(TypeError):
            value = node.attrs[name]
            if name in encoded:
                found[name] = json.loads(value)
            elif not isinstance(value, h5py.Empty):
                found[name] = plain(value)
    return found


def _stored_part(path: Path, key: str) -> Presence:
    with open_hdf5(path) as file:
        node = file[key]
        if node.chunks is not None:
            grid = (-(-size // chunk) for size, chunk in zip(node.shape, node.chunks, strict=True))
            return Presence("chunks", node.id.get_num_chunks(), math.prod(grid))
        if node.is_virtual:
            return Presence("voxels", _mapped(node), node.size)
        # HDF5 allocates an array in one piece when the first voxel is written.
        return Presence("voxels", node.size if node.id.get_storage_size() else 0, node.size)


def _mapped(node: h5py.Dataset) -> int:
    """The voxels of a virtual data set that have a source."""
    spaces = [entry.vspace for entry in node.virtual_sources()]
    # An unlimited one extends as far as its sources do, which the shape says.
    if any(goes_on(space) or space.get_select_type() == h5py.h5s.SEL_ALL for space in spaces):
        return node.size
    return reduce(lambda one, two: one.combine_select(two), spaces).get_select_npoints()
