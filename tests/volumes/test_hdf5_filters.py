"""Data sets packed with filters that HDF5 itself does not have."""

import pickle
import sys

import h5py
import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes import open_volume, read_attributes

RAW = np.random.default_rng(0).integers(0, 9, (6, 7, 8), np.uint8)
NOBODYS = 32099


def packed_by_a_filter(path, number):
    """A file whose one chunk claims to have passed a filter that this process need not know."""
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk(RAW.shape)
        creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(RAW.shape)
        made = h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, dcpl=creation)
        made.write_direct_chunk((0, 0, 0), RAW.tobytes())
    return path


def test_a_filter_that_nobody_has_is_named_before_anything_is_read(tmp_path):
    path = packed_by_a_filter(tmp_path / "a.h5", NOBODYS)
    with pytest.raises(UserError, match=r"a.h5:raw'.* \(HDF5 filter 32099\).*install hdf5plugin$"):
        open_volume(path)


@pytest.mark.parametrize(
    ("number", "name"), [(32001, "blosc"), (32008, "bitshuffle"), (32015, "zstd")]
)
def test_without_hdf5plugin_the_filter_has_its_name(tmp_path, monkeypatch, number, name):
    path = packed_by_a_filter(tmp_path / "a.h5", number)
    # What was registered once stays so in a process.
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda asked: asked != number)
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(UserError, match=rf"compressed with {name} \(HDF5 filter {number}\)"):
        open_volume(path)


@pytest.mark.parametrize("filtered", ["Bitshuffle", "Blosc", "Zstd", "LZ4"])
def test_with_hdf5plugin_they_are_read(tmp_path, filtered):
    plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=RAW, chunks=(3, 7, 8), **getattr(plugin, filtered)())
    volume = pickle.loads(pickle.dumps(open_volume(tmp_path / "a.h5")))
    np.testing.assert_array_equal(volume[...], RAW)


def test_what_h5py_packs_itself_needs_no_plugin(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    for name in ("gzip", "lzf"):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            options = {"compression": name, "shuffle": True, "fletcher32": True}
            file.create_dataset("raw", data=RAW, chunks=(3, 7, 8), **options)
        np.testing.assert_array_equal(open_volume(tmp_path / f"{name}.h5")[...], RAW)
        assert read_attributes(tmp_path / f"{name}.h5") == {}
