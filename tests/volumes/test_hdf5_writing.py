"""A full disk ends the writing of an HDF5 file in the disk's own words, and in no crash."""

import errno
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes import open_volume, write_volume
from emseg.volumes.hdf5_writing import writable_hdf5

ARRAY = np.random.default_rng(0).integers(0, 256, (16, 64, 64), np.uint8)


@contextmanager
def _files_end_at(size: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("free", [0, 100, 3000, 30_000])
def test_a_disk_that_takes_no_more(tmp_path: Path, free: int) -> None:
    path = tmp_path / "a.h5"
    told = rf"^cannot write '{path}': {os.strerror(errno.EFBIG)}$"
    with _files_end_at(free), pytest.raises(UserError, match=told):
        write_volume(path, ARRAY, axes="zyx")
    gc.collect()  # a file that could not be closed would end the process here
    assert [*tmp_path.iterdir()] == []
    write_volume(path, ARRAY, axes="zyx")
    np.testing.assert_array_equal(open_volume(path)[...], ARRAY)


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with writable_hdf5(tmp_path / "a.h5") as file:
            file[name] = ARRAY
    with h5py.File(tmp_path / "a.h5") as file:
        assert {*file} == {"one", "two"}
        np.testing.assert_array_equal(file["one"][...], ARRAY)
