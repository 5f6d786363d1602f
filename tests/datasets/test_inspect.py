"""The verb inspect: what each data set of a file is, as lines and as JSON."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from emseg.cli import main
from emseg.volumes import write_volume


@pytest.fixture
def official():
    """A file as the CREMI challenge has it."""
    with h5py.File("a.hdf", "w") as file:
        raw = file.create_dataset("volumes/raw", (4, 8, 9), np.uint8, chunks=(1, 4, 9))
        raw[:1] = raw[3, 7] = 1
        raw.attrs["resolution"] = [40.0, 4.0, 4.0]
        file["volumes/labels/ids"] = np.zeros((4, 8, 9), np.uint64)
        file["annotations/points"] = np.zeros((7, 3))
        file["version"] = 3
    return "a.hdf"


def lines(capsys, *words):
    capsys.readouterr()
    assert main(["inspect", *words]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return told.out.splitlines()


def test_each_data_set_of_an_hdf5_file_is_a_line(official, capsys):
    assert lines(capsys, official) == [
        "a.hdf:annotations/points: 7 x 3, float64, no chunks, axes yx, no resolution",
        "a.hdf:version: one value, int64, no chunks, no axes of a volume, no resolution",
        "a.hdf:volumes/labels/ids: 4 x 8 x 9, uint64, no chunks, axes zyx, no resolution",
        "a.hdf:volumes/raw: 4 x 8 x 9, uint8, chunks 1 x 4 x 9, axes zyx, "
        "resolution 40 x 4 x 4 nm, chunks: 3 of 8 present",
    ]
    assert lines(capsys, "a.hdf:volumes/labels") == lines(capsys, official)[2:3]
    assert lines(capsys, "a.hdf:volumes/raw", "a.hdf:version") == [
        lines(capsys, official)[number] for number in (3, 1)
    ]


@pytest.mark.parametrize("name", ["p.h5", "p.zarr"])
def test_a_prediction_of_our_own_tells_its_channels_and_axes(name, capsys):
    array = np.zeros((2, 3, 4, 5), np.float16)
    write_volume(name, array, axes="cxyz", voxel_size=(9, 9, 20.5))
    (line,) = lines(capsys, name)
    stated = "dimension_names" if name == "p.zarr" else "axes"
    told = f"chunks 1 x 3 x 4 x 5, axes cxyz ({stated}), resolution 9 x 9 x 20.5 nm"
    assert line == f"{name}:main: 2 x 3 x 4 x 5, float16, {told}, chunks: 2 of 2 present"


def test_arrays_of_zarr_2_and_3_at_any_depth(capsys):
    for number in (2, 3):
        group = zarr.open_group(f"v{number}.zarr", mode="w", zarr_format=number)
        group.create_array("b/deep", shape=(6, 4, 2), chunks=(3, 4, 2), dtype="u2")
        group.create_array("a", shape=(5,), chunks=(5,), dtype="f4")
        assert lines(capsys, f"v{number}.zarr") == [
            f"v{number}.zarr:a: 5, float32, chunks 5, no axes of a volume, no resolution, "
            "chunks: 0 of 1 present",
            f"v{number}.zarr:b/deep: 6 x 4 x 2, uint16, chunks 3 x 4 x 2, axes zyx, no resolution, "
            "chunks: 0 of 2 present",
        ]
    zarr.create_array("root.zarr", shape=(2, 3, 4), chunks=(2, 3, 4), dtype="u1")
    assert lines(capsys, "root.zarr")[0].startswith("root.zarr: 2 x 3 x 4, uint8, chunks 2 x 3 x 4")


def test_a_stack_of_tiff_has_no_key(capsys):
    tifffile.imwrite("s.tif", np.zeros((3, 5, 6), np.uint16), photometric="minisblack")
    told = "s.tif: 3 x 5 x 6, uint16, no chunks, axes zyx, no resolution"
    assert lines(capsys, "s.tif") == [told]


def test_places_and_folders_of_sections(capsys):
    with h5py.File("a.h5", "w") as file:
        file["a"] = np.zeros((1, 4, 5, 6), np.uint8)
        file["a"].attrs.update({"axis_names": ["c^", "x", "y", "z"], "voxel_size": [4, 4, 40]})
        file["a"].attrs["offset"] = [8, 0, -40]
        file["b"] = np.zeros((4, 5, 6), np.uint8)
        file["b"].attrs.update({"axes": "zyx", "axis_names": ["x", "y", "z"]})
    Path("s").mkdir()
    for number in range(3):
        tifffile.imwrite(f"s/{number}.tif", np.zeros((5, 6), np.uint8))
    assert lines(capsys, "a.h5", "s") == [
        "a.h5:a: 1 x 4 x 5 x 6, uint8, no chunks, axes cxyz (axis_names), "
        "resolution 4 x 4 x 40 nm, offset 8 x 0 x -40 nm",
        "a.h5:b: 4 x 5 x 6, uint8, no chunks, no axes of a volume, no resolution",
        "s:*.tif: 3 x 5 x 6, uint8, no chunks, axes zyx, no resolution",
    ]


def test_the_same_as_json(official, capsys):
    told = lines(capsys, official, "--json", "out/what.json")
    records = json.loads(Path("out/what.json").read_text())
    assert len(told) == len(records) == 4
    assert records[3] == {
        "file": "a.hdf",
        "key": "volumes/raw",
        "shape": [4, 8, 9],
        "dtype": "uint8",
        "chunks": [1, 4, 9],
        "axes": "zyx",
        "axes_from": None,
        "resolution": [40.0, 4.0, 4.0],
        "offset": None,
        "stored": [{"parts": "chunks", "present": 3, "total": 8, "at_least": False}],
        "others": [],
    }
    assert [record["axes"] for record in records] == ["yx", None, "zyx", "zyx"]
    assert (records[0]["chunks"], records[0]["resolution"]) == (None, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gone.h5"], "'gone.h5' does not exist"),
        (["text.txt"], "'text.txt' names no volume"),
        (["a.hdf:volumes/rwa"], "did you mean 'volumes/raw'"),
        (["a.hdf", "--json", "a.hdf"], "must end in .json"),
        (["no.h5"], "is not an HDF5 file"),
        (["no.zarr"], "no.zarr"),
        (["bare.h5"], "'bare.h5' holds no data set"),
        ([], "emseg inspect FILE"),
    ],
)
def test_what_is_no_file_of_volumes_is_one_line(official, capsys, words, told):
    Path("no.h5").write_text("no")
    Path("no.zarr").mkdir()
    with h5py.File("bare.h5", "w"):
        pass
    assert main(["inspect", *words]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert h5py.is_hdf5("a.hdf")


def test_what_cannot_be_read_is_passed_over_and_told_at_the_end(official, capsys):
    Path("no.h5").write_text("no")
    Path("b.zarr").symlink_to("b.zarr")
    sound = lines(capsys, official)
    words = ["no.h5", official, "gone.tif", "b.zarr", f"{official}:volumes/labels"]
    assert main(["inspect", *words, "--json", "what.json"]) == 2
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [*sound, sound[2]]
    told = shown.err.splitlines()
    assert [line.split("'")[1] for line in told] == ["no.h5", "gone.tif", "b.zarr"]
    records = json.loads(Path("what.json").read_text())
    assert [record["file"] for record in records if "error" in record] == [
        "no.h5",
        "gone.tif",
        "b.zarr",
    ]
    assert len(records) == 8


def test_links_are_shown_with_the_files_they_lead_to(official, capsys):
    with h5py.File("set.h5", "w") as file:
        file["raw"] = h5py.ExternalLink(official, "volumes/raw")
        file["old"] = h5py.ExternalLink("moved.h5", "raw")
        file["same"] = h5py.SoftLink("/raw")
        file["me"] = h5py.SoftLink("/me")
    assert main(["inspect", "set.h5"]) == 2
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    assert line.startswith("set.h5:raw: 4 x 8 x 9, uint8") and line.endswith("present, from a.hdf")
    told = shown.err.splitlines()
    assert "'set.h5:me' leads in a circle" in told[0]
    assert "'set.h5:old' draws from 'moved.h5', which does not exist" in told[1]
    (line,) = lines(capsys, "set.h5:same")
    assert line.startswith("set.h5:same: 4 x 8 x 9")


def test_folders_of_zarr_that_contain_themselves_end(capsys):
    group = zarr.open_group("a.zarr", mode="w")
    group.create_array("b/raw", shape=(6, 4, 2), chunks=(3, 4, 2), dtype="u2")
    Path("a.zarr/b/up").symlink_to("..")
    assert len(lines(capsys, "a.zarr")) == 1
    Path("a.zarr/b/raw/c").symlink_to("..")
    assert main(["inspect", "a.zarr"]) == 2
    assert "is a link to a folder that it lies in" in capsys.readouterr().err
