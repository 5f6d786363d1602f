"""Folders of section images as one volume."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from emseg.errors import UserError
from emseg.volumes import identity, open_volume
from emseg.volumes.sections import group_by_number

RAW = np.random.default_rng(0).integers(0, 255, (12, 9, 7), np.uint8)


def export(pattern, array=RAW, *, start=0, step=1):
    for number, section in enumerate(array):
        path = Path(pattern.format(start + step * number))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.fromarray(section).save(path)
        else:
            tifffile.imwrite(path, section)


@pytest.mark.parametrize("name", ["{}.tif", "s{:04d}_inv.png", "im2_{}.tiff", "a_{:02d}_z7.TIF"])
@pytest.mark.parametrize("location", ["cube", "cube/", "./cube"])
def test_sections_are_stacked_by_their_numbers(name, location):
    export(f"cube/{name}", start=8)
    Path("cube/readme.txt").write_text("of the microscope")
    Path("cube/.thumb.png").write_text("hidden")
    volume = pickle.loads(pickle.dumps(open_volume(location)))
    assert (volume.axes, volume.shape, volume.dtype) == ("zyx", RAW.shape, RAW.dtype)
    np.testing.assert_array_equal(volume.read((1, 2, 0), (11, 9, 3)), RAW[1:11, 2:, :3])
    assert volume.attributes == {}
    # What is found is a location, too.
    np.testing.assert_array_equal(open_volume(volume.location)[...], RAW)


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint16])
def test_pixels_keep_their_type(kind, dtype):
    array = RAW.astype(dtype) if dtype == np.bool_ else RAW.astype(dtype) * 257
    export(f"cube/{{}}.{kind}", array)
    volume = open_volume("cube")
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume[...], array)


def test_a_picture_is_one_section():
    export("cube/{}[1].png")
    Path("cube/01.png").write_bytes(Path("cube/3[1].png").read_bytes())
    volume = open_volume("cube/3[1].png")
    np.testing.assert_array_equal(volume[...], RAW[3:4])
    np.testing.assert_array_equal(open_volume(volume.location)[...], RAW[3:4])
    Image.fromarray(RAW[3]).save("cube/a.jpg", quality=100, subsampling=0)
    assert abs(open_volume("cube/a.jpg")[...].astype(int) - RAW[3]).max() < 8
    with pytest.raises(UserError, match="unknown section images 'b.png'"):
        open_volume("cube/b.png")


def test_one_of_several_stacks_in_a_folder_is_named_by_a_pattern():
    export("cube/raw_{:02d}.png")
    export("cube/seg_{:02d}.png", RAW + 1)
    with pytest.raises(
        UserError, match=r"several stacks.*'cube:raw_\*.png' .*there are: raw_\*.png, seg_"
    ):
        open_volume("cube")
    np.testing.assert_array_equal(open_volume("cube:seg_*.png")[...], RAW + 1)
    with pytest.raises(UserError, match="unknown section images 'lab_"):
        open_volume("cube:lab_*.png")
    # Numbers that say two things each are put in their natural order, where a pattern says so.
    export("depth/s{0}_z{0}0.tif", start=1)
    np.testing.assert_array_equal(open_volume("depth:s*.tif")[...], RAW)


def test_missing_sections_are_listed():
    export("cube/s_{}.tif", start=1, step=2)
    volume = open_volume("cube")
    assert volume.attributes == {"missing_sections": [*range(2, 23, 2)]}
    np.testing.assert_array_equal(volume[...], RAW)


def test_colours_are_channels():
    colours = np.stack([RAW, RAW + 1, RAW + 2], axis=-1)
    for kind in ("png", "tif"):
        export(f"{kind}/{{}}.{kind}", colours)
        np.testing.assert_array_equal(open_volume(kind)[...], np.moveaxis(colours, -1, 0))


def test_what_is_no_stack_is_one_line():
    Path("empty").mkdir()
    export("sizes/{}.png", RAW[:2])
    Image.fromarray(RAW[2, 1:]).save("sizes/2.png")
    export("twice/{}.png", RAW[:2])
    Image.fromarray(RAW[0]).save("twice/01.png")
    export("types/{}.tif", RAW[:2])
    tifffile.imwrite("types/2.tif", RAW[2].astype(np.uint16))
    export("palette/{}.png", RAW[:2])
    Image.fromarray(RAW[0]).convert("P").save("palette/2.png")
    Path("stacks").mkdir()
    tifffile.imwrite("stacks/0.tif", RAW, photometric="minisblack")
    export("broken/{}.png", RAW[:2])
    Path("broken/2.png").write_text("no image")
    for folder, told in (
        ("empty", "without section images (.png, .jpg, .jpeg, .tif, .tiff)"),
        ("sizes", "'sizes/2.png' is uint8 (8, 7), '0.png' beside it uint8 (9, 7)"),
        ("twice", "'01.png' and '1.png' are both section 1"),
        ("types", "'types/2.tif' is uint16"),
        ("palette", "'palette/2.png' is uint8 (9, 7, 3)"),
        ("stacks", "'stacks/0.tif' holds 12 pages of yx: a folder of sections has one image in"),
        ("broken", "cannot read the image 'broken/2.png'"),
        ("gone", "'gone' names no volume"),
    ):
        with pytest.raises(UserError) as refused:
            open_volume(folder)
        assert told in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.mrc", "a.raw", "a.n5", "a.czi", "a.mat", "a.npy"]
)
def test_other_formats_are_answered_with_those_there_are(name):
    with pytest.raises(
        UserError, match=r"names no volume.*\.h5.*\.zarr.*\.tif.*\.png.*folder of section"
    ):
        open_volume(name)
    export(f"{name}/0.png")
    if name == "a.n5":
        with pytest.raises(UserError, match="names no volume"):
            open_volume(name)


def test_a_folder_is_as_its_files_are():
    export("cube/{}.png")
    before = identity("cube", verify=True)
    assert before["shape"] == list(RAW.shape)
    Image.fromarray(RAW[0] + 1).save("cube/5.png")
    assert identity("cube", verify=True)["sha256"] != before["sha256"]


def test_names_are_grouped_by_the_number_that_varies():
    names = ["a1_z9_c1.tif", "a1_z10_c1.tif", "b_1.tif", "b_2.tif", "lone.tif"]
    assert group_by_number(names) == {
        "a1_z*_c1.tif": {9: "a1_z9_c1.tif", 10: "a1_z10_c1.tif"},
        "b_*.tif": {1: "b_1.tif", 2: "b_2.tif"},
        "lone.tif": {0: "lone.tif"},
    }
    two = [f"im{volume}_{z}.png" for volume in (1, 2) for z in (0, 1)]
    assert [*group_by_number(two)] == ["im1_*.png", "im2_*.png"]
