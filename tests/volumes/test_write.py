import os
from pathlib import Path

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
from emseg.volumes.atomic import publish
from emseg.volumes.content import content_now

RAW = np.random.default_rng(0).random((20, 30, 150), np.float32)
PLACE = {"axes": "zyx", "voxel_size": (30, 6, 6)}
both = pytest.mark.parametrize("name", ["a.h5", "a.zarr"])


@pytest.mark.parametrize("name", ["a.h5", "a.hdf5", "a.zarr"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint32, np.uint64, np.int32, "f2", "f4"])
def test_what_is_written_is_read(name, dtype):
    array, new = (RAW * 50).astype(dtype), Path("new", name)
    attributes = {"fingerprint": "f", "offsets": [[0, 0, 1]], "deep": {"a": [None, 1.5, "b"]}}
    write_volume(new, array, **PLACE, offset=(1, 2, 3), attributes=attributes)
    volume = open_volume(new)
    np.testing.assert_array_equal(volume[...], array)
    assert volume.dtype == array.dtype
    assert (volume.axes, volume.voxel_size, volume.offset) == ("zyx", (30, 6, 6), (1, 2, 3))
    place = {"axes": "zyx", "resolution": [30, 6, 6], "offset": [1, 2, 3]}
    stored = read_attributes(new)
    assert stored.pop("content")["sha256"] == content_now(new)
    assert stored == {**attributes, **place}
    assert [path.name for path in new.parent.iterdir()] == [name]


@both
def test_channels_and_other_orders_come_back(name):
    write_volume(name, np.stack([RAW, -RAW]), axes="cxyz")
    volume = open_volume(name)
    assert (volume.channels, volume.axes, volume.voxel_size) == (2, "xyz", None)
    np.testing.assert_array_equal(volume[...], np.stack([RAW, -RAW]))
    write_volume(name, RAW, **PLACE, dataset="labels")
    np.testing.assert_array_equal(open_volume(f"{name}:labels")[...], RAW)
    assert [path.name for path in Path().iterdir()] == [name]


@both
def test_a_failed_write_leaves_the_old_volume_and_nothing_else(name):
    write_volume(name, RAW, **PLACE)
    with pytest.raises(TypeError, match="attribute"):
        write_volume(name, RAW * 0, **PLACE, attributes={"bad": object()})
    broken = np.full(RAW.shape, None, dtype=object)
    with pytest.raises((TypeError, ValueError)):
        write_volume(name, broken, **PLACE)
    np.testing.assert_array_equal(open_volume(name)[...], RAW)
    assert [path.name for path in Path().iterdir()] == [name]


@both
def test_an_abandoned_temporary_is_in_nobodys_way(name):
    if name == "a.zarr":
        Path("a.zarr.tmp/main").mkdir(parents=True)
        Path("a.zarr.replaced").mkdir()
    else:
        Path("a.h5.tmp").write_text("half")
    for value in (1, 2):
        write_volume(name, RAW * value, **PLACE)
        np.testing.assert_array_equal(open_volume(name)[...], RAW * value)
    assert {path.name for path in Path().iterdir()} <= {name, "a.zarr.replaced"}


def test_a_folder_that_refuses_is_one_line():
    check_writable("new/deep")
    assert list(Path("new/deep").iterdir()) == []
    Path("file").touch()
    refused = [lambda: check_writable("file"), lambda: check_writable("file/below")]
    for name in ("file/a.h5", "file/a.zarr"):
        refused.append(lambda name=name: write_volume(name, RAW, **PLACE))
    for use in refused:
        with pytest.raises(UserError, match=r"^cannot write '[^\n]*file[^\n]*$"):
            use()


def test_axes_must_fit_the_array():
    for axes in ("zyxc", "czyx", "zy", "zzz"):
        with pytest.raises(ValueError, match="do not fit"):
            write_volume("a.h5", RAW, axes=axes)
    with pytest.raises(UserError, match=r"must end in one of"):
        write_volume("a.tif", RAW, **PLACE)


def test_default_chunks_hold_one_channel_and_thin_slabs():
    assert default_chunks((12, 100, 1024, 1024)) == (1, 16, 128, 128)
    assert default_chunks((3, 5, 1000)) == (3, 5, 128)


@pytest.mark.parametrize("old", [None, "a.old.h5"])
def test_a_file_is_on_disk_before_it_takes_the_place_of_another(tmp_path, monkeypatch, old):
    made, path = tmp_path / "a.partial", tmp_path / "a.h5"
    made.write_text("new")
    path.write_text("old")
    here_then: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: here_then.append(path.read_text()))
    publish(made, path, old_to=old and tmp_path / old)
    assert here_then == ["old"] and path.read_text() == "new"
    assert old is None or (tmp_path / old).read_text() == "old"
