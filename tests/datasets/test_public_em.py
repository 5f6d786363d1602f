"""The public volumes of dbMiM's pretraining, from small files under the real ones' names."""

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from emseg.cli import main
from emseg.config import load
from emseg.config.choices import tutorials_folder
from emseg.datasets import public_em
from emseg.stages.sources import open_sources
from emseg.volumes import open_volume, read_attributes, write_volume

WORDS = ["convert", "public-em", "datasets", "datasets/dbmim/public_em"]
OUT = Path(WORDS[-1])
NAMES = ["cremi_A", "cremi_B", "cremi_C"] + [
    f"{challenge}_{part}" for challenge in ("isbi2012", "snemi3d") for part in ("train", "test")
]
# Where `download` puts them, and where a user may have unpacked the rest.
PLACES = {
    "sample_A_20160501.hdf": "datasets/dbmim/CREMI",
    "sample_B_20160501.hdf": "datasets/cremi",
    "sample_C_20160501.hdf": "datasets/cremi",
    "train-volume.tif": "datasets/ISBI-2012",
    "test-volume.tif": "datasets/ISBI-2012",
    "train-input.tif": "datasets/SNEMI",
    "test-input.tif": "datasets/SNEMI",
}


@pytest.fixture(autouse=True)
def small(here, monkeypatch):
    """Stacks of other shapes each, as files in several folders."""
    stacks = tuple(
        replace(stack, shape=(3 + number, 8, 9)) for number, stack in enumerate(public_em.IMAGES)
    )
    monkeypatch.setattr(public_em, "IMAGES", stacks)
    for stack in stacks:
        put(stack)
    return stacks


def voxels(stack):
    return np.random.default_rng(stack.shape[0]).integers(0, 256, stack.shape, np.uint8)


def put(stack, array=None, folder=None):
    path = Path(folder or PLACES[stack.file]) / stack.file
    path.parent.mkdir(parents=True, exist_ok=True)
    array = voxels(stack) if array is None else array
    if path.suffix == ".tif":
        tifffile.imwrite(path, array, photometric="minisblack")
        return path
    with h5py.File(path, "w") as file:
        raw = file.create_dataset("volumes/raw", data=array)
        raw.attrs["resolution"] = [40.0, 4.0, 4.0]
        file["volumes/labels/neuron_ids"] = np.ones(array.shape, np.uint64)
    return path


def test_the_real_stacks_are_those_of_the_mixture(monkeypatch):
    monkeypatch.undo()
    told = {stack.name: (stack.shape, stack.voxel_size) for stack in public_em.IMAGES}
    cremi, isbi = ((125, 1250, 1250), (40, 4, 4)), ((30, 512, 512), (50, 4, 4))
    snemi = ((100, 1024, 1024), (30, 6, 6))
    assert told == dict(zip(NAMES, [cremi] * 3 + [isbi] * 2 + [snemi] * 2, strict=True))


def test_each_stack_becomes_a_volume_that_the_pretraining_reads(small, capsys):
    assert main(WORDS) == 0
    for stack, name in zip(small, NAMES, strict=True):
        volume = open_volume(OUT / f"{name}.h5")
        np.testing.assert_array_equal(volume[...], voxels(stack))
        assert (volume.voxel_size, volume.axes) == (stack.voxel_size, "zyx")
        assert read_attributes(OUT / f"{name}.h5")["source"] == stack.source
    tutorial = tutorials_folder() / "dbmim" / "pretrain_r17.yaml"
    data = load(tutorial, mode="train", overrides=()).root.data
    assert len(open_sources(data.train, split="train")) == len(NAMES)


def test_a_second_call_leaves_what_is_up_to_date_and_remakes_what_is_not(small, capsys):
    assert main(WORDS) == 0
    before = {path: path.stat().st_mtime_ns for path in OUT.iterdir()}
    put(small[-1], 255 - voxels(small[-1]))
    capsys.readouterr()
    assert main(WORDS) == 0
    assert capsys.readouterr().err.count("is up to date") == 6
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == ["snemi3d_test.h5"]
    np.testing.assert_array_equal(open_volume(OUT / changed[0])[...], 255 - voxels(small[-1]))
    # A user's own is not replaced.
    own = np.ones((2, 3, 4), np.uint8)
    write_volume(OUT / "cremi_A.h5", own, axes="zyx")
    assert main(WORDS) == 2
    assert "was not made by convert" in capsys.readouterr().err.splitlines()[-1]
    assert open_volume(OUT / "cremi_A.h5").shape == (2, 3, 4)


def test_what_is_missing_is_told_with_where_to_get_it_and_the_rest_is_made(small, capsys):
    for name in ("sample_B_20160501.hdf", "train-volume.tif", "test-volume.tif", "test-input.tif"):
        (Path(PLACES[name]) / name).unlink()
    assert main(WORDS) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "4 of 7 volumes are missing below datasets" in line
    assert "sample_B_20160501.hdf from emseg download cremi-official" in line
    assert "train-volume.tif, test-volume.tif from https://downloads.imagej.net/" in line
    assert "test-input.tif from emseg download snemi" in line
    made = {path.stem for path in OUT.iterdir()}
    assert made == {"cremi_A", "cremi_C", "snemi3d_train"}


@pytest.mark.parametrize("array", [np.ones((5, 8, 9), np.uint8), np.ones((8, 8, 9), np.uint16)])
def test_another_volume_of_that_name_is_refused_before_any_is_written(small, capsys, array):
    assert small[5].file == "train-input.tif" and small[5].shape == (8, 8, 9)
    put(small[5], array)
    assert main(WORDS) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "train-input.tif" in line and "is not SNEMI3D, train input, which is (8, 8, 9)" in line
    assert not OUT.exists()


def test_a_file_in_two_places_counts_once_unless_its_copies_differ(small, capsys):
    shutil.copy(Path(PLACES[small[0].file]) / small[0].file, "datasets/cremi")
    assert main(WORDS) == 0
    put(small[0], 255 - voxels(small[0]), folder="datasets/cremi")
    assert main(WORDS) == 2
    assert "have one name, but differ" in capsys.readouterr().err.splitlines()[-1]


def test_a_source_that_is_no_folder_is_refused(capsys):
    assert main(["convert", "public-em", "nowhere", "out"]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err
    assert not Path("out").exists()
