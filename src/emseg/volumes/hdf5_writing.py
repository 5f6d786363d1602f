"""Writing HDF5 files so that a full disk gives an error, not a crash."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


@contextmanager
def writable_hdf5(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading and writing, made if it is not there.

    Raises the OSError of the disk (full, say) once the file is closed.
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
