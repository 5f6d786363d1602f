import json
import os

import numpy as np
import pytest
import tifffile

from emseg.errors import UserError
from emseg.volumes import identity, write_volume

RAW = np.arange(8 * 9 * 10, dtype=np.uint16).reshape(8, 9, 10)


def write(path, array=RAW, voxel_size=(30, 6, 6)):
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
    else:
        write_volume(path, array, axes="zyx", voxel_size=voxel_size, attributes={})
    return path


@pytest.mark.parametrize("name", ["a.h5", "a.zarr", "a.tif"])
def test_identity_names_what_is_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / name)
    found = identity(name)
    files = [f for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file()]
    assert found == {
        "path": name,
        "dataset": "" if name == "a.tif" else "main",
        "size": sum(file.stat().st_size for file in files),
        "mtime": max(file.stat().st_mtime_ns for file in files),
        "shape": [8, 9, 10],
        "dtype": "uint16",
    }
    assert json.loads(json.dumps(found)) == found
    assert identity(name) == found


@pytest.mark.parametrize("name", ["a.h5", "a.zarr", "a.tif"])
def test_a_touched_file_differs_by_mtime_and_equals_in_content(tmp_path, name):
    path = write(tmp_path / name)
    before = identity(path, verify=True)
    touched = path if path.is_file() else path / "main" / "zarr.json"
    os.utime(touched, ns=(0, before["mtime"] + 10**9))
    after = identity(path, verify=True)
    assert {key for key in before if before[key] != after[key]} == {"mtime"}


@pytest.mark.parametrize("name", ["a.h5", "a.zarr", "a.tif"])
def test_other_voxels_of_the_same_size_and_mtime_differ_in_content(tmp_path, name):
    path = write(tmp_path / name)
    before = identity(path, verify=True)
    write(path, RAW[::-1])
    assert identity(path, verify=True)["sha256"] != before["sha256"]


def test_another_scale_of_a_zarr_is_another_identity(tmp_path):
    path = write(tmp_path / "a.zarr")
    before = identity(path / "main", verify=True)
    metadata = path / "zarr.json"
    metadata.write_text(metadata.read_text().replace("30.0", "40.0"))
    assert identity(path / "main", verify=True)["sha256"] != before["sha256"]


def test_no_voxel_is_read_without_verify(tmp_path):
    path = write(tmp_path / "a.zarr")
    for chunk in (path / "main" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    assert identity(path)["shape"] == [8, 9, 10]


def test_a_missing_volume_has_no_identity(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        identity(tmp_path / "a.h5")
