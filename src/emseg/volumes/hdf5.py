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
from emseg.volumes.hdf5_writing import writable_hdf5
from emseg.volumes.layout import Layout
from emseg.volumes.location import pick_dataset

# The attribute that names those of its neighbours that hold JSON, so that text stays text.
_JSON_NAMES = "json_attributes"


class Hdf5Array:
    """A data set of an HDF5 file, opened lazily and anew in every process."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        file = open_hdf5(path)
        self.key = _find(file, key, path)
        self._dataset: h5py.Dataset | None = file[self.key]
        self._process = os.getpid()
        self.shape: tuple[int, ...] = tuple(self._dataset.shape or ())
        self.dtype: np.dtype = self._dataset.dtype
        self.attributes = _read_attributes(self._dataset)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dataset": None}

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        # A handle must not cross a fork: the library's state would be shared with the parent.
        if self._dataset is None or self._process != os.getpid():
            self._dataset = open_hdf5(self.path)[self.key]
            self._process = os.getpid()
        try:
            return self._dataset[region]
        except OSError as error:
            raise UserError(f"cannot read '{self.path}:{self.key}': {error}") from error


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


def open_hdf5(path: Path) -> h5py.File:
    """The file, opened for reading; UserError when it is truncated, or no HDF5 file."""
    try:
        # With the default locking: HDF5 refuses to open a file twice under different flags, and
        # the user of a notebook may hold it open too.
        return h5py.File(path, "r")
    except OSError as error:
        reason = str(error)
        if "truncated" in reason:
            raise UserError(f"'{path}' is truncated: its end is missing; fetch it again") from error
        if "signature" in reason:
            raise UserError(f"'{path}' is not an HDF5 file") from error
        raise UserError(f"cannot open '{path}': {reason}") from error


def _compression(dtype: np.dtype) -> dict[str, Any]:
    # Labels: gzip 1 packs 25:1, as fast as lzf and readable everywhere. Images and predictions:
    # lzf writes two to three times faster than gzip 1, whose files are only a tenth smaller.
    if dtype.kind in "iu" and dtype.itemsize > 1:
        return {"compression": "gzip", "compression_opts": 1}
    return {"compression": "lzf", "shuffle": dtype.itemsize > 1}


def _find(file: h5py.File, key: str, path: Path) -> str:
    if key and isinstance(file.get(key), h5py.Dataset):
        return key
    keys: list[str] = []
    file.visititems(lambda name, node: keys.append(name) if hasattr(node, "shape") else None)
    return pick_dataset(keys, key, where=path)


def _read_attributes(node: h5py.Dataset) -> dict[str, Any]:
    encoded = json.loads(node.attrs.get(_JSON_NAMES, "[]"))
    found = {}
    for name in node.attrs:
        if name == _JSON_NAMES:
            continue
        value = node.attrs[name]
        if name in encoded:
            found[name] = json.loads(value)
        elif not isinstance(value, h5py.Empty):
            # Dimension scales hang references on data sets; outside the file they mean nothing.
            with suppress(TypeError):
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
