import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from emseg.errors import UserError
from emseg.volumes import identity, write_volume

RAW = np.arange(8 * 9 * 10, dtype=np.uint16).reshape(8, 9, 10)
each_format = pytest.mark.parametrize("name", ["a.h5", "a.zarr", "a.tif"])


def write(name, array=RAW):
    if name.endswith(".tif"):
        tifffile.imwrite(name, array, photometric="minisblack")
    else:
        write_volume(name, array, axes="zyx", voxel_size=(30, 6, 6))


@each_format
def test_identity_names_what_is_there(name):
    write(name)
    files = [file for file in [Path(name), *Path(name).rglob("*")] if file.is_file()]
    found = identity(Path(name).absolute()) | {"path": name}
    assert found == {
        "path": name,
        "dataset": "" if name == "a.tif" else "main",
        "size": sum(file.stat().st_size for file in files),
        "mtime": max(file.stat().st_mtime_ns for file in files),
        "shape": [8, 9, 10],
        "dtype": "uint16",
    }
    assert json.loads(json.dumps(found)) == found == identity(name)


@each_format
def test_a_copy_differs_by_mtime_and_other_voxels_in_content(name):
    write(name)
    before = identity(name, verify=True)
    touched = name if Path(name).is_file() else f"{name}/main/zarr.json"
    os.utime(touched, ns=(0, before["mtime"] + 10**9))
    after = identity(name, verify=True)
    assert {key for key in before if before[key] != after[key]} == {"mtime"}
    write(name, RAW[::-1])
    assert identity(name, verify=True)["sha256"] != before["sha256"]


def test_another_scale_of_a_zarr_is_another_identity():
    write("a.zarr")
    before = identity("a.zarr/main", verify=True)
    metadata = Path("a.zarr/zarr.json")
    metadata.write_text(metadata.read_text().replace("30.0", "40.0"))
    assert identity("a.zarr/main", verify=True)["sha256"] != before["sha256"]


def test_no_voxel_is_read_without_verify():
    write("a.zarr")
    for chunk in Path("a.zarr/main/c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    assert identity("a.zarr")["shape"] == [8, 9, 10]


def test_a_missing_volume_has_no_identity():
    with pytest.raises(UserError, match="does not exist"):
        identity("a.h5")
