"""HDF5 files that a full disk ends in an error, not in a crash."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


@contextmanager
def writable_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading and writing, made if it is not there.

    Raises the OSError of a disk that is full, or refuses otherwise, once the file is closed.
    """
    with _Sink(path, "r+" if path.exists() else "w+") as sink:
        try:
            with h5py.File(sink, "a" if path.stat().st_size else "w") as file:
                yield file
        finally:
            if sink.refused is not None:
                raise sink.refused


class _Sink(io.FileIO):
    """A file that says it has written when the disk refuses, and keeps what the disk said.

    The HDF5 library cannot close a file to which it cannot write: the process dies at its end.
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
