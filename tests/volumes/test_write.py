import h5py
import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes import (
    check_writable,
    default_chunks,
    open_volume,
    read_attributes,
    write_volume,
)
from emseg.volumes.content import content_now

RAW = np.random.default_rng(0).random((20, 30, 150), np.float32)
PLACE = {"axes": "zyx", "voxel_size": (30, 6, 6)}


@pytest.mark.parametrize("name", ["a.h5", "a.hdf5", "a.zarr"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint32, np.uint64, np.int32, "f2", "f4"])
def test_what_is_written_is_read(tmp_path, name, dtype):
    array = (RAW * 50).astype(dtype)
    attributes = {"fingerprint": "f", "offsets": [[0, 0, 1]], "deep": {"a": [None, 1.5, "b"]}}
    write_volume(tmp_path / "new" / name, array, **PLACE, offset=(1, 2, 3), attributes=attributes)
    volume = open_volume(tmp_path / "new" / name)
    np.testing.assert_array_equal(volume[...], array)
    assert volume.dtype == array.dtype
    assert (volume.axes, volume.voxel_size, volume.offset) == ("zyx", (30, 6, 6), (1, 2, 3))
    place = {"axes": "zyx", "resolution": [30, 6, 6], "offset": [1, 2, 3]}
    stored = read_attributes(tmp_path / "new" / name)
    assert stored.pop("content")["sha256"] == content_now(tmp_path / "new" / name)
    assert stored == {**attributes, **place}
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_channels_and_other_orders_come_back(tmp_path, name):
    write_volume(
        tmp_path / name, np.stack([RAW, -RAW]), axes="cxyz", voxel_size=None, attributes={}
    )
    volume = open_volume(tmp_path / name)
    assert (volume.channels, volume.axes, volume.voxel_size) == (2, "xyz", None)
    np.testing.assert_array_equal(volume[...], np.stack([RAW, -RAW]))
    write_volume(tmp_path / name, RAW, **PLACE, attributes={}, dataset="labels")
    np.testing.assert_array_equal(open_volume(f"{tmp_path / name}:labels")[...], RAW)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_failed_write_leaves_the_old_volume_and_nothing_else(tmp_path, name):
    write_volume(tmp_path / name, RAW, **PLACE, attributes={})
    with pytest.raises(TypeError, match="attribute"):
        write_volume(tmp_path / name, RAW * 0, **PLACE, attributes={"bad": object()})
    broken = np.full(RAW.shape, None, dtype=object)
    with pytest.raises((TypeError, ValueError)):
        write_volume(tmp_path / name, broken, **PLACE, attributes={})
    np.testing.assert_array_equal(open_volume(tmp_path / name)[...], RAW)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_an_abandoned_temporary_is_in_nobodys_way(tmp_path, name):
    if name == "a.zarr":
        (tmp_path / "a.zarr.tmp" / "main").mkdir(parents=True)
        (tmp_path / "a.zarr.replaced").mkdir()
    else:
        (tmp_path / "a.h5.tmp").write_text("half")
    for value in (1, 2):
        write_volume(tmp_path / name, RAW * value, **PLACE, attributes={})
        np.testing.assert_array_equal(open_volume(tmp_path / name)[...], RAW * value)
    assert {path.name for path in tmp_path.iterdir()} <= {name, "a.zarr.replaced"}


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_a_folder_that_refuses_is_one_line(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write '[^\n]*'[^\n]*$"):
        write_volume(tmp_path / "file" / name, RAW, **PLACE, attributes={})


def test_check_writable_makes_the_folder_or_says_why_not(tmp_path):
    check_writable(tmp_path / "new" / "deep")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"^cannot write '[^\n]*file[^\n]*$"):
            check_writable(folder)


def test_axes_must_fit_the_array(tmp_path):
    for axes in ("zyxc", "czyx", "zy", "zzz"):
        with pytest.raises(ValueError, match="do not fit"):
            write_volume(tmp_path / "a.h5", RAW, axes=axes, voxel_size=None, attributes={})
    with pytest.raises(UserError, match=r"must end in one of"):
        write_volume(tmp_path / "a.tif", RAW, **PLACE, attributes={})


def test_default_chunks_hold_one_channel_and_thin_slabs():
    assert default_chunks((12, 100, 1024, 1024)) == (1, 16, 128, 128)
    assert default_chunks((3, 5, 1000)) == (3, 5, 128)


def test_hdf5_opens_with_h5py_alone(tmp_path):
    write_volume(tmp_path / "a.h5", RAW, **PLACE, attributes={})
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["main"][...], RAW)
