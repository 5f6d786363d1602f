"""Data sets in HDF5 files: read region by region, written slab by slab."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emseg.errors import UserError
from emseg.volumes.attributes import plain
from emseg.volumes.damage import one_line
from emseg.volumes.hdf5_links import data_sets, follow, open_hdf5
from emseg.volumes.hdf5_sources import drawn_from
from emseg.volumes.hdf5_writing import writable_hdf5
from emseg.volumes.layout import Layout
from emseg.volumes.location import pick_dataset

# This attribute lists the other attributes that hold JSON, so that plain text stays text.
_JSON_NAMES = "json_attributes"

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


class Hdf5Array:
    """A data set of an HDF5 file, opened lazily and anew in every process."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        file = open_hdf5(path)
        self.key = _find(file, key, path)
        # Before opening it: HDF5 crashes on a virtual data set that contains itself.
        self._drawn = drawn_from(path, self.key)
        self._dataset: h5py.Dataset | None = file[self.key]
        self._process = os.getpid()
        self.shape: tuple[int, ...] = tuple(self._dataset.shape or ())
        self.dtype: np.dtype = self._dataset.dtype
        self.chunks: tuple[int, ...] | None = self._dataset.chunks
        self.attributes = _read_attributes(self._dataset)
        self.named_axes = _named_axes(self._dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        # A handle must not cross a fork: the library's state would be shared with the parent.
        where = f"'{self.path}:{self.key}'"
        with one_line(f"cannot read {where}"):
            if self._dataset is None or self._process != os.getpid():
                self._dataset = open_hdf5(self.path)[self.key]
                self._process = os.getpid()
                self.require_filters()
            block = self._dataset[region]
        if len(self._drawn.files) > 1:
            self._drawn.check_files(where)
        return block

    def files(self) -> list[Path]:
        """The files that it reads from, its own first."""
        return self._drawn.files

    def require_filters(self) -> None:
        """Raises UserError if the data set is compressed with a filter that is not installed."""
        if self._dataset is not None:
            _require_filters(self._dataset, f"{self.path}:{self.key}")


def write_hdf5(path: Path, slabs: Iterable[tuple[int, np.ndarray]], layout: Layout) -> None:
    """A new file with one data set, filled with slabs (start, array) along axis -3."""
    with writable_hdf5(path) as file:
        stored = file.create_dataset(
            layout.dataset,
            shape=layout.shape,
            dtype=layout.dtype,
            chunks=layout.chunks,
            **_compression(layout.dtype),
        )
        for start, slab in slabs:
            stored[..., start : start + slab.shape[-3], :, :] = slab
        _write_attributes(stored, layout.attributes)


def _compression(dtype: np.dtype) -> dict[str, Any]:
    # Labels: gzip 1 compresses 25:1, as fast as lzf and readable everywhere. Images and
    # predictions: lzf writes two to three times faster than gzip 1, whose files are only a tenth
    # smaller.
    if dtype.kind in "iu" and dtype.itemsize > 1:
        return {"compression": "gzip", "compression_opts": 1}
    return {"compression": "lzf", "shuffle": dtype.itemsize > 1}


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
                f"cannot read '{where}': it is compressed with {name}HDF5 filter {number}), which "
                "is not installed: pip install hdf5plugin"
            )


def _read_attributes(node: h5py.Dataset) -> dict[str, Any]:
    encoded = json.loads(node.attrs.get(_JSON_NAMES, "[]"))
    found = {}
    for name in node.attrs:
        if name == _JSON_NAMES:
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


def _write_attributes(node: h5py.Dataset, attributes: Mapping[str, Any]) -> None:
    encoded = []
    for name, value in plain(attributes).items():
        native = _is_native(value)
        node.attrs[name] = value if native else json.dumps(value)
        if not native:
            encoded.append(name)
    if encoded:
        node.attrs[_JSON_NAMES] = json.dumps(encoded)


def _is_native(value: Any) -> bool:
    if isinstance(value, list):
        return len({type(item) for item in value}) == 1 and all(
            isinstance(item, int | float) and _is_native(item) for item in value
        )
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float)
