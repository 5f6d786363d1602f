"""HDF5 files written slab by slab; a full disk gives an error, not a crash."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emseg.volumes.attributes import plain
from emseg.volumes.layout import Layout

# This attribute lists the other attributes that hold JSON, so that plain text stays text.
JSON_NAMES = "json_attributes"


def write_hdf5(path: Path, slabs: Iterable[tuple[int, np.ndarray]], layout: Layout) -> None:
    """Adds a data set to the file, which is created if it is missing.

    Args:
        slabs: the first index along axis -3 and the voxels (C?, n, Y, X) of each, in any order.
        layout: of the data set, which the file does not have yet.

    Raises:
        OSError: of the disk (full, say).
    """
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


@contextmanager
def writable_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading and writing, made if it is not there.

    Raises:
        OSError: of the disk (full, say), once the file is closed.
    """
    with _Sink(path, "r+" if path.exists() else "w+") as sink:
        try:
            with h5py.File(sink, "a" if path.stat().st_size else "w") as file:
                yield file
        finally:
            if sink.refused is not None:
                raise sink.refused


class _Sink(io.FileIO):
    """A file that reports success when the disk refuses a write, and stores the disk's error.

    The HDF5 library cannot close a file that it cannot write to: the process would crash at exit.
    """

    refused: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest and self.refused is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.refused = error
        return memoryview(data).nbytes


def _compression(dtype: np.dtype) -> dict[str, Any]:
    # Labels: gzip 1 compresses 25:1, as fast as lzf and readable everywhere. Images and
    # predictions: lzf writes two to three times faster than gzip 1, whose files are only a tenth
    # smaller.
    if dtype.kind in "iu" and dtype.itemsize > 1:
        return {"compression": "gzip", "compression_opts": 1}
    return {"compression": "lzf", "shuffle": dtype.itemsize > 1}


def _write_attributes(node: h5py.Dataset, attributes: Mapping[str, Any]) -> None:
    encoded = []
    for name, value in plain(attributes).items():
        native = _is_native(value)
        node.attrs[name] = value if native else json.dumps(value)
        if not native:
            encoded.append(name)
    if encoded:
        node.attrs[JSON_NAMES] = json.dumps(encoded)


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
