"""How much of an array is stored, against arrays of which we know what was written."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from emseg.errors import UserError
from emseg.volumes import open_volume, write_volume
from emseg.volumes.formats import presence
from emseg.volumes.source import Presence


def of_zarr_2(separator: str):
    return lambda name: zarr.create_array(
        name, shape=(5, 6, 7), chunks=(2, 2, 2), dtype="u1", zarr_format=2, fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": separator},
    )  # fmt: skip


def of_zarr_3(encoding: str, separator: str, **shards):
    return lambda name: zarr.create_array(
        name, shape=(5, 6, 7), chunks=(2, 2, 2), dtype="u1", fill_value=0, **shards,
        chunk_key_encoding={"name": encoding, "separator": separator},
    )  # fmt: skip


ZARRS = [
    (of_zarr_2("."), "chunks", 36),
    (of_zarr_2("/"), "chunks", 36),
    (of_zarr_3("default", "/"), "chunks", 36),
    (of_zarr_3("default", "."), "chunks", 36),
    (of_zarr_3("v2", "."), "chunks", 36),
    (of_zarr_3("default", "/", shards=(4, 4, 4)), "shards", 8),
]


@pytest.mark.parametrize(("make", "parts", "total"), ZARRS)
def test_chunks_of_zarr_are_counted(make, parts, total):
    array = make("a.zarr")
    assert presence("a.zarr") == [Presence(parts, 0, total)]
    array[0, 0, 0] = array[4, 5, 6] = 9
    assert presence("a.zarr") == [Presence(parts, 2, total)]
    Path("a.zarr/.DS_Store").write_text("no chunk")
    Path("a.zarr/9.9.9").write_text("outside the grid, from before the array was made smaller")
    assert presence("a.zarr") == [Presence(parts, 2, total)]
    array[...] = 1
    assert presence("a.zarr")[0].absent == 0


def test_the_array_meant_is_counted():
    group = zarr.create_group("a.zarr")
    for key, filled in (("b/one", 1), ("two", 2)):
        array = group.create_array(key, shape=(4, 4, 4), chunks=(1, 4, 4), dtype="u1")
        array[:filled] = 7
    assert str(presence("a.zarr/b/one")[0]) == "chunks: 1 of 4 present"
    assert str(presence("a.zarr:two")[0]) == "chunks: 2 of 4 present"


def test_counting_ends_and_says_so(monkeypatch):
    write_volume("a.zarr", np.ones((40, 8, 8), np.uint8), axes="zyx")
    monkeypatch.setattr("emseg.volumes.ome_zarr.MOST_COUNTED", 2)
    (found,) = presence("a.zarr")
    assert str(found) == "chunks: at least 2 of 3 present" and found.absent == 0


def test_a_chunk_that_is_a_link_to_nothing_is_no_absent_chunk():
    zarr.save_array("a.zarr", np.ones((4, 4, 4), np.uint8), zarr_format=2)
    (chunk,) = Path("a.zarr").glob("0.*")
    chunk.unlink()
    chunk.symlink_to("annex/4f/1b")
    assert open_volume("a.zarr")[...].max() == 0
    with pytest.raises(UserError, match=r"'a.zarr/0.0.0' is a link to 'annex/4f/1b', which does"):
        presence("a.zarr")


def test_chunks_of_hdf5_are_counted():
    with h5py.File("a.h5", "w") as file:
        chunked = file.create_dataset("chunked", (5, 6, 7), np.uint8, chunks=(2, 2, 2))
        chunked[0, 0, 0] = chunked[4, 5, 6] = 1
        file.create_dataset("late", (5, 6, 7), np.uint8)
        file["whole"] = np.zeros((5, 6, 7))
    assert presence("a.h5:chunked") == [Presence("chunks", 2, 36)]
    assert presence("a.h5:late") == [Presence("voxels", 0, 210)]
    assert presence("a.h5:whole") == [Presence("voxels", 210, 210)]


def test_what_no_source_fills_of_a_virtual_data_set_is_counted():
    with h5py.File("a.h5", "w") as file:
        source = file.create_dataset("a", (4, 5, 6), np.uint8, chunks=(1, 5, 6))
        source[:3] = 1
        layout = h5py.VirtualLayout((9, 5, 6), np.uint8)
        layout[:4] = layout[2:6] = h5py.VirtualSource(".", "a", (4, 5, 6))  # They overlap.
        layout[8, 2, 3:5] = h5py.VirtualSource(".", "a", (4, 5, 6))[0, 0, :2]
        file.create_virtual_dataset("all", layout)
    filled = Presence("voxels", 6 * 30 + 2, 9 * 30)
    assert presence("a.h5:all") == [filled, Presence("chunks of sources", 3, 4)]


def test_declaring_much_takes_nothing():
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("a", (10**6,) * 3, np.uint8, chunks=(64, 64, 64))
    assert presence("a.h5") == [Presence("chunks", 0, 15625**3)]
    zarr.create_array("a.zarr", shape=(10**6,) * 3, chunks=(64, 64, 64), dtype="u1")
    assert presence("a.zarr") == [Presence("chunks", 0, 15625**3)]
    assert open_volume("a.zarr").read((0, 0, 0), (2, 2, 2)).max() == 0


def test_of_tiff_nothing_is_counted(tmp_path):
    import tifffile

    tifffile.imwrite("a.tif", np.ones((3, 4, 5), np.uint8), photometric="minisblack")
    assert presence("a.tif") == []
