"""The convert verb: official files of CREMI become volumes."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets.official import BACKGROUND, INVALID
from datasets.official import official as official_file
from emseg.cli import main
from emseg.datasets import convert
from emseg.datasets.converted import THICKNESS
from emseg.errors import UserError
from emseg.volumes import open_volume, write_volume

SHAPE = (2 * THICKNESS + 5, 20, 24)
IDS = (8, 2**40, 3)


def clefts_of(shape=SHAPE):
    clefts = np.full(shape, BACKGROUND, np.uint64)
    clefts[2:5, 3:6, 4:9] = IDS[0]
    clefts[15:18, 3:6, 4:9] = IDS[1]
    clefts[30, 0, 0] = IDS[2]
    clefts[34:, 10:, 11:] = INVALID
    clefts[0, 0, 0] = 0
    return clefts


def official(name, *, shape=SHAPE, **more):
    return official_file(name, shape=shape, **more)


def test_an_official_file_becomes_an_image_and_its_clefts():
    image = official("sample_A_20160501.hdf", clefts=clefts_of())
    assert main(["convert", "cremi", "sample_A_20160501.hdf", "out"]) == 0
    assert {path.name for path in Path("out").iterdir()} == {"im_A.h5", "syn_A.h5"}
    with h5py.File("out/im_A.h5") as im, h5py.File("out/syn_A.h5") as syn:
        assert [*im] == [*syn] == ["main"]
        assert (im["main"].dtype, syn["main"].dtype) == (np.uint8, np.int32)
        np.testing.assert_array_equal(im["main"][...], image)
        labels = syn["main"][...]
    for volume in (open_volume("out/im_A.h5"), open_volume("out/syn_A.h5")):
        assert (volume.axes, volume.voxel_size, volume.offset) == ("zyx", (40, 4, 4), (0, 0, 0))
    expected = np.zeros(SHAPE, np.int32)
    for number, name in enumerate(sorted(IDS), 1):
        expected[clefts_of() == name] = number
    expected[clefts_of() == INVALID] = -1
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("raw_offset", [None, (-80.0, 0.0, 4.0)])
def test_a_padded_image_is_cut_to_its_labels(raw_offset):
    offset = (120.0, 20.0, 44.0)
    image = official(
        "sample_B_padded_20160501.hdf",
        clefts=clefts_of(),
        offset=offset,
        shape=(44, 40, 50),
        raw_offset=raw_offset,
    )
    assert main(["convert", "cremi", "sample_B_padded_20160501.hdf", "out"]) == 0
    z, y, x = (3, 5, 11) if raw_offset is None else (5, 5, 10)
    cut = image[z : z + 37, y : y + 20, x : x + 24]
    made = open_volume("out/im_B.h5")
    np.testing.assert_array_equal(made[...], cut)
    assert made.offset == open_volume("out/syn_B.h5").offset == offset
    assert made.shape == open_volume("out/syn_B.h5").shape == SHAPE


def test_a_folder_of_them_and_held_out_ones_without_labels():
    for name in ("A_20160501", "C_20160501"):
        official(f"cremi/sample_{name}.hdf", clefts=clefts_of())
    image = official("cremi/sample_A+_20160601.hdf", shape=(5, 6, 7))
    Path("cremi/sample_A_20160501.hdf.sha256").write_text("beside")
    assert main(["convert", "cremi", "cremi", "out"]) == 0
    names = {"im_A.h5", "syn_A.h5", "im_C.h5", "syn_C.h5", "im_A+.h5"}
    assert {path.name for path in Path("out").iterdir()} == names
    np.testing.assert_array_equal(open_volume("out/im_A+.h5")[...], image)


def test_what_is_there_of_the_same_source_is_not_made_again(refused, monkeypatch, capsys):
    official("sample_A_20160501.hdf", clefts=clefts_of())
    words = ["convert", "cremi", "sample_A_20160501.hdf", "out"]
    assert main(words) == 0
    made = {path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()}
    assert main(words) == 0
    assert capsys.readouterr().err.count("is up to date") == 2
    assert {path.name: path.stat().st_mtime_ns for path in Path("out").iterdir()} == made
    official("sample_A_20160501.hdf", clefts=np.full(SHAPE, 5, np.uint64))
    assert main(words) == 0
    assert (open_volume("out/syn_A.h5")[...] == 1).all()
    # What came from elsewhere, the re-aligned volumes say, is somebody's.
    others = np.zeros(SHAPE, np.uint8)
    write_volume("out/im_A.h5", others, axes="zyx")
    assert "out/im_A.h5 is there, and was not made by convert" in refused("convert", *words[1:])
    np.testing.assert_array_equal(open_volume("out/im_A.h5")[...], others)
    # What breaks off leaves the old one.
    official("sample_A_20160501.hdf", clefts=clefts_of())
    Path("out/im_A.h5").unlink()
    monkeypatch.setattr(convert, "_is_cleft", lambda slab: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(words)
    assert {path.name for path in Path("out").iterdir()} == {"im_A.h5", "syn_A.h5"}
    assert (open_volume("out/syn_A.h5")[...] == 1).all()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ({"name": "sample.hdf"}, "sample.hdf: no sample in the name"),
        ({"offset": (0, 0, 8)}, "reaches from voxel [0, 0, 2] to [37, 20, 26]"),
        ({"offset": (-40, 0, 0)}, "reaches from voxel [-1, 0, 0]"),
        ({"offset": (0, 0, 2)}, "begins [0.0, 0.0, 0.5] voxels into"),
        ({"clefts": np.zeros(SHAPE, np.uint32)}, "of uint32 is not official clefts"),
        ({"shape": (37, 20, 20)}, "which has (37, 20, 20)"),
    ],
)
def test_files_that_are_not_official_are_refused(refused, made, told):
    name = made.pop("name", "sample_A_1.hdf")
    official(name, **{"clefts": clefts_of()} | made)
    assert told in refused("convert", "cremi", name, "out")
    assert not Path("out").exists()


def test_other_refuseds_are_one_line(refused):
    official("a/sample_A_1.hdf")
    official("a/sample_A_padded_1.hdf")
    Path("empty").mkdir()
    assert "both of sample A" in refused("convert", "cremi", "a", "out")
    assert "holds no .hdf files" in refused("convert", "cremi", "empty", "out")
    assert "did you mean 'a/sample_A_1.hdf'" in refused(
        "convert", "cremi", "a/sample_A_2.hdf", "out"
    )
    assert "unknown conversion 'cremy'; did you mean 'cremi'" in refused(
        "convert", "cremy", "a", "out"
    )
    line = refused("convert", "cremi", "a", "out", "--alignment", "b.json")
    assert "--alignment is for convert cremi-submission" in line
    assert "emseg convert cremi SOURCE DIR" in refused("convert", "cremi", "a")
    with h5py.File("sample_B_1.hdf", "w") as file:
        file["volumes/raw"] = np.zeros(SHAPE, np.uint16)
    assert "of uint16 is not an official image" in refused(
        "convert", "cremi", "sample_B_1.hdf", "out"
    )
    with h5py.File("sample_B_1.hdf", "w") as file:
        file["volumes/raw"] = np.zeros(SHAPE, np.uint8)
        file["volumes/labels/clefts"] = clefts_of()
    assert "has the resolution None" in refused("convert", "cremi", "sample_B_1.hdf", "out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("sample_A_20160501.hdf", "A"),
        ("sample_C+_20160601.hdf", "C+"),
        ("sample_B_padded_20160501.hdf", "B"),
        ("sample_B+_padded_20160601.hdf", "B+"),
        ("A.h5", "A"),
    ],
)
def test_a_sample_is_told_by_the_name(name, sample):
    assert convert.sample_of(Path(name)) == sample


@pytest.mark.parametrize("name", ["Sample_20160501.hdf", "sample_A++_1.hdf", "AB.hdf"])
def test_a_name_without_a_sample_is_refused(name):
    with pytest.raises(UserError, match=f"^{re.escape(name)}"):
        convert.sample_of(Path(name))
