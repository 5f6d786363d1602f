"""Names of volumes, globs, and labels beside images with channels."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from emseg.config.schema_data import VolumeConfig as Volume
from emseg.errors import UserError
from emseg.stages.sources import open_sources, within
from emseg.volumes import write_volume

SHAPE = (4, 5, 6)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, shape=SHAPE, axes="zyx", dataset="main", value=0):
    path, array = Path(name), np.full(shape, value, np.uint8)
    write_volume(path, array, axes=axes, voxel_size=None, attributes={}, dataset=dataset)
    return name


def names(volumes, **options):
    return [source.name for source in open_sources(volumes, split="test", **options)]


def test_a_lone_volume_is_called_as_the_stage_says_unless_it_says_so_itself():
    image = write("cells.h5")
    assert names({"": Volume(image=image)}, lone_name="test_im") == ["test_im"]
    assert names({"": Volume(image=image)}) == ["cells"]
    assert names({"": Volume(image=image, name="x")}, lone_name="test_im") == ["x"]
    assert names({"key": Volume(image=image)}, lone_name="test_im") == ["key"]
    assert names({"key": Volume(image=image, name="x")}) == ["x"]


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("a/cube.h5", "cube"),
        ("a/cube.h5:raw", "cube"),
        ("a/cube.zarr/raw", "cube"),
        ("seed1.v2/raw.h5", "seed1.v2"),
        ("seed1/data/img.h5:main", "seed1"),
        ("seed1/Data/EM.h5", "seed1"),
    ],
)
def test_the_nearest_telling_name(image, name):
    file, _, key = image.partition(":")
    inside = key or ("raw" if file.endswith("/raw") else "main")
    write(file.removesuffix("/raw"), dataset=inside)
    assert names({"": Volume(image=image)}) == [name]


def test_a_glob_is_a_volume_for_each_file():
    for index, name in enumerate(("b", "a")):
        write(f"im_{name}.h5", dataset="raw", value=index)
        write(f"lab_{name}.h5", dataset="ids", value=index)
    volume = Volume(image="im_*.h5:raw", label="lab_*.h5:ids", unlabelled=7)
    sources = open_sources({"": volume}, split="test", lone_name="test_im")
    assert [source.name for source in sources] == ["im_a", "im_b"]
    for source, value in zip(sources, (1, 0), strict=True):
        assert (source.image[...] == value).all() and (source.label[...] == value).all()
        assert source.config.unlabelled == 7
    assert names({"": Volume(image="im_*.h5/raw")}) == ["im_a", "im_b"]
    assert names({"": Volume(path=".", image="im_*.h5:raw")}) == ["im_a", "im_b"]


def test_files_of_a_glob_under_a_key_have_the_key_before_their_names():
    for file in ("fafb/block_1.h5", "fib25/block_1.h5", "fib25/raw.h5"):
        write(file)
    volumes = {key: Volume(image=f"{key}/*.h5") for key in ("fafb", "fib25")}
    assert names(volumes) == ["fafb_block_1", "fib25_block_1", "fib25_fib25"]
    assert names({"fafb": Volume(image="fafb/*.h5", name="x")}) == ["x"]


def test_brackets_in_a_name_that_is_there_are_no_pattern():
    assert names({"": Volume(image=write("cells[1].h5"))}) == ["cells[1]"]


def test_refused_names_and_patterns():
    for folder in ("one", "two"):
        write(f"{folder}/cube.h5")
    write("lab_1.h5")
    for volumes, told in (
        ({}, "names no volume"),
        (
            {"": Volume(image="*/cube.h5")},
            "one/cube.h5 and two/cube.h5 are both called 'cube'",
        ),
        ({"": Volume(image="*/cube.h5", name="x")}, "'x' for the 2 files"),
        ({"": Volume(image="*/cube.h5", label="lab_*.h5")}, "2 images, but 1 files"),
        ({"": Volume(image="none_*.h5")}, "no file matches none_*.h5"),
        ({"a": Volume(image="one/cube.h5", name="a/b")}, "'a/b'"),
    ):
        with pytest.raises(UserError) as refused:
            open_sources(volumes, split="test")
        assert told in str(refused.value)


@pytest.mark.parametrize(("axes", "channels_at"), [("czyx", 0), ("zyxc", 3), ("cxyz", 0)])
def test_labels_lie_on_the_grid_of_an_image_with_channels(axes, channels_at):
    shape = list(SHAPE)
    shape.insert(channels_at, 2)
    for name, stored in (("im", shape), ("lab", SHAPE), ("mask", SHAPE)):
        with h5py.File(f"{name}.h5", "w") as file:
            file["main"] = np.zeros(stored, np.uint8)
    volume = Volume(image="im.h5", label="lab.h5", mask="mask.h5", axes=axes, range=(1, 3))
    (source,) = open_sources({"": volume}, split="test")
    assert source.image.channels == 2
    for part in (source.image, source.label, source.mask):
        assert part.shape == (2, 5, 6)
        assert part.axes == axes.replace("c", "")


def test_labels_of_another_shape_are_refused():
    image, label = write("im.h5"), write("less.h5", (4, 5, 5))
    with pytest.raises(UserError, match="less.h5.*shape.*im.h5"):
        open_sources({"": Volume(image=image, label=label)}, split="test")


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_another_order_are_seen_in_the_image_s(split):
    truth = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    write("im.h5")
    write_volume("lab.h5", truth.transpose(2, 0, 1), axes="xzy", voxel_size=None, attributes={})
    with h5py.File("mask.h5", "w") as file:
        file["main"] = truth.transpose(2, 1, 0)[None] % 2
        for axis, name in enumerate("cxyz"):
            file["main"].dims[axis].label = name
    volume = Volume(image="im.h5", label="lab.h5", mask="mask.h5", range=(1, 3), range_axis="y")
    (source,) = open_sources({"": volume}, split=split)
    assert source.image.axes == source.label.axes == source.mask.axes == "zyx"
    np.testing.assert_array_equal(source.label[...], truth[:, 1:3])
    np.testing.assert_array_equal(source.mask[...], truth[:, 1:3] % 2)
    with pytest.raises(UserError, match=r"axes 'zyx' contradict 'lab\.h5:main'"):
        open_sources({"": Volume(image="im.h5", label="lab.h5", axes="zyx")}, split=split)


def test_labels_that_name_no_axes_need_those_of_the_image():
    write_volume("im.h5", np.zeros(SHAPE, np.uint8), axes="xyz", voxel_size=None, attributes={})
    with h5py.File("lab.h5", "w") as file:
        file["main"] = np.zeros(SHAPE, np.uint8)
    with pytest.raises(
        UserError, match="lab.h5:main does not name its axes, its image im.h5:main has x"
    ):
        open_sources({"": Volume(image="im.h5", label="lab.h5")}, split="train")
    volume = Volume(image="im.h5", label="lab.h5", axes="xyz")
    (source,) = open_sources({"": volume}, split="train")
    assert source.label.axes == "xyz" and source.label.shape == SHAPE


def test_training_on_two_orders_of_axes_is_told(capsys):
    volumes = {axes: Volume(image=write(f"{axes}.h5", axes=axes)) for axes in ("zyx", "xyz")}
    open_sources(volumes, split="train")
    assert "warning: zyx.h5:main has axes zyx, xyz.h5:main xyz" in capsys.readouterr().err


def test_a_pattern_of_single_sections_says_how_they_are_one_volume():
    for name in ("s/0.tif", "s/1.tif", "p/a.png", "p/b.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((5, 6), np.uint8)).save(name)
    for pattern, told in (
        ("s/*.tif", "'s:*.tif'"),
        ("p/*.png", "'p:*.png'"),
        ("*/*.tif", "'*:*.t"),
    ):
        with pytest.raises(
            UserError,
            match=re.escape(f"2 images of one section each: as one volume they are {told}"),
        ):
            names({"": Volume(image=pattern)})
    assert names({"": Volume(image="s:*.tif")}) == names({"": Volume(image="s")}) == ["s"]
    Path("deep/a").mkdir(parents=True)
    Path("s").rename("deep/a/raw")
    assert names({"": Volume(image="deep/*/raw")}) == ["a"]


def test_missing_sections_are_told(capsys):
    Path("s").mkdir()
    for number in (1, 2, 5):
        Image.fromarray(np.zeros((5, 6), np.uint8)).save(f"s/{number}.tif")
    names({"": Volume(image="s")})
    told = capsys.readouterr().err
    assert "warning: s:*.tif: 2 sections are missing by the numbers of its files (3, 4)" in told


def test_unknown_skeletons_are_answered_with_the_formats():
    write("im.h5")
    Path("none").mkdir()
    for name in ("s.json", "s.csv", "s.nml", "s.h5"):
        Path(name).write_text("")
        with pytest.raises(UserError, match=rf"{name}: skeletons are in files of \.pkl.*\.swc"):
            names({"": Volume(image="im.h5", skeletons=name)})
    for name, told in (("none", "no .swc files"), ("gone.swc", "there are no skeletons")):
        with pytest.raises(UserError, match=told):
            names({"": Volume(image="im.h5", skeletons=name)})


@pytest.mark.parametrize(("axis", "along"), [(None, 0), ("z", 2), ("y", 1), ("x", 0)])
def test_a_range_is_along_its_axis(axis, along):
    array = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)
    for name in ("im.h5", "lab.h5"):
        write_volume(Path(name), array, axes="xyz", voxel_size=None, attributes={})
    volume = Volume(image="im.h5", label="lab.h5", mask="lab.h5", range=(1, 3), range_axis=axis)
    (source,) = open_sources({"": volume}, split="train")
    wanted = array.take([1, 2], axis=along)
    for part in (source.image, source.label, source.mask):
        np.testing.assert_array_equal(part[...], wanted)
    first = [0, 0, 0]
    first[along] = 1
    region = source.region()
    assert region["first"] == first
    assert np.subtract(region["stop"], first).tolist() == list(wanted.shape)


def test_a_range_beyond_its_axis_names_the_file():
    with pytest.raises(
        UserError, match=r"im\.h5:main: range \[0, 6\] holds no voxel of an axis of 5"
    ):
        open_sources(
            {"": Volume(image=write("im.h5"), range=(0, 6), range_axis="y")}, split="train"
        )
    with pytest.raises(UserError, match="range_axis='y'.*null without a range"):
        Volume(image="im.h5", range_axis="y")


def test_regions_meet_where_they_share_a_voxel():
    write("im.h5")
    write("other.h5")

    def opened(image, bounds, axis, *, cut=None):
        volume = Volume(image=image, range=bounds, range_axis=axis)
        (source,) = open_sources({"": volume}, split="train")
        return within(source, cut)

    left = opened("im.h5", (0, 3), "x")
    trained = [opened("other.h5", None, None).region(), left.region()]
    assert left.is_in(trained)
    assert opened("./im.h5", (2, 4), "x").is_in(trained)
    assert opened("im.h5", (0, 1), "z").is_in(trained)
    assert not opened("im.h5", (3, 6), "x").is_in(trained)
    # A range within a range: the fourth section, of which the first two are elsewhere.
    low = opened("im.h5", (0, 2), "z").region()
    assert not opened("im.h5", (1, 4), "z", cut=(1, 3)).is_in([low])
    assert opened("im.h5", (1, 4), "z", cut=(0, 1)).is_in([low])


def test_images_and_labels_of_other_names_are_no_pairs():
    for name in ("im_A", "im_B", "syn_B", "syn_C"):
        write(f"{name}.h5")
    with pytest.raises(UserError, match=r"im_A\.h5 would go with .*syn_B\.h5: the files of"):
        names({"": Volume(image="im_[ABC].h5", label="syn_[ABC].h5")})
    assert names({"": Volume(image="im_[B].h5", label="syn_[B].h5")}) == ["im_B"]
