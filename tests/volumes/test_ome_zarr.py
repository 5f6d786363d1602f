import json

import numpy as np
import pytest
import zarr

from emseg.errors import UserError
from emseg.volumes import open_volume, read_attributes, write_volume

RAW = np.random.default_rng(0).integers(0, 255, (10, 11, 12), np.uint8)


def multiscale(path, *, axes="zyx", unit="micrometer", scales=None):
    spatial = [{"name": a, "type": "space", **({"unit": unit} if unit else {})} for a in "zyx"]
    channel = [{"name": "c", "type": "channel"}] * axes.count("c")
    return {
        "multiscales": [
            {
                "axes": channel + spatial,
                "datasets": [
                    {"path": name, "coordinateTransformations": transforms}
                    for name, transforms in (scales or {path: []}).items()
                ],
            }
        ]
    }


@pytest.mark.parametrize("version", [2, 3])
def test_a_root_array_and_an_array_in_a_group(tmp_path, version):
    zarr.save_array(str(tmp_path / "root.zarr"), RAW, zarr_format=version)
    np.testing.assert_array_equal(open_volume(tmp_path / "root.zarr")[...], RAW)
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version)
    group["img"], group["deep/seg"] = RAW, RAW + 1
    for location in ("a.zarr/img", "a.zarr:img"):
        np.testing.assert_array_equal(open_volume(tmp_path / location)[...], RAW)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.zarr" / "deep")[...], RAW + 1)
    with pytest.raises(UserError, match="several data sets.*deep/seg, img"):
        open_volume(tmp_path / "a.zarr")
    with pytest.raises(UserError, match="did you mean 'img'"):
        open_volume(tmp_path / "a.zarr" / "imgs")


def test_arrays_in_a_plain_folder(tmp_path):
    image = np.stack([RAW, RAW + 1], axis=-1)
    zarr.save_array(str(tmp_path / "data.zarr" / "img"), image, zarr_format=2)
    zarr.save_array(str(tmp_path / "data.zarr" / "seg"), RAW, zarr_format=2)
    volume = open_volume(tmp_path / "data.zarr" / "img", axes="xyzc")
    assert (volume.axes, volume.channels, volume.shape) == ("xyz", 2, RAW.shape)
    np.testing.assert_array_equal(volume[...], np.moveaxis(image, -1, 0))
    with pytest.raises(UserError, match="axes=czyx"):
        open_volume(tmp_path / "data.zarr" / "img")


@pytest.mark.parametrize(("version", "ome"), [(2, "0.4"), (3, "0.5")])
def test_ome_zarr_tells_scale_translation_axes_and_array(tmp_path, version, ome):
    block = multiscale(
        "",
        axes="czyx",
        scales={
            "0": [
                {"type": "scale", "scale": [1, 0.02, 0.004, 0.004]},
                {"type": "translation", "translation": [0, 0.1, 0, 0.2]},
            ],
            "1": [{"type": "scale", "scale": [1, 0.02, 0.008, 0.008]}],
        },
    )
    block["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [1, 2, 1, 1]}
    ]
    attributes = {"ome": {"version": ome, **block}} if ome == "0.5" else block
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version, attributes=attributes)
    group["0"], group["1"] = np.stack([RAW, RAW]), np.stack([RAW, RAW])[..., ::2, ::2]
    volume = open_volume(tmp_path / "a.zarr")
    assert volume.location.endswith(":0") and volume.channels == 2
    assert volume.voxel_size == pytest.approx((40, 4, 4))
    assert volume.offset == pytest.approx((200, 0, 200))
    coarse = open_volume(tmp_path / "a.zarr" / "1")
    assert coarse.voxel_size == pytest.approx((40, 8, 8)) and coarse.offset is None
    assert open_volume(tmp_path / "a.zarr", voxel_size=(1, 2, 3)).voxel_size == (1, 2, 3)


def test_a_scale_without_unit_is_no_voxel_size(tmp_path):
    scales = {"0": [{"type": "scale", "scale": [1, 1, 1]}]}
    block = multiscale("", unit=None, scales=scales)
    group = zarr.create_group(str(tmp_path / "a.zarr"), attributes={"ome": block})
    group["0"] = RAW
    assert open_volume(tmp_path / "a.zarr").voxel_size is None


def test_versions_before_03_name_no_axes_and_no_place(tmp_path):
    block = {"multiscales": [{"version": "0.2", "datasets": [{"path": "0"}, {"path": "1"}]}]}
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=2, attributes=block)
    group["0"], group["1"] = RAW, RAW[:, ::2, ::2]
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.voxel_size, volume.offset, volume.axes) == (None, None, "zyx")
    np.testing.assert_array_equal(volume[...], RAW)


@pytest.mark.parametrize("kind", ["scale", "translation"])
def test_a_transform_kept_in_an_array_leaves_the_place_unknown(tmp_path, kind):
    transforms = [{"type": "scale", "scale": [1, 1, 1]}, {"type": kind, "path": "transform"}]
    block = multiscale("", scales={"0": transforms})
    group = zarr.create_group(str(tmp_path / "a.zarr"), attributes={"ome": block})
    group["0"] = RAW
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.voxel_size, volume.offset, volume.axes) == (None, None, "zyx")


def test_attributes_of_the_array_win_over_the_group(tmp_path):
    scales = {"img": [{"type": "scale", "scale": [1, 1, 1]}]}
    block = multiscale("", scales=scales)
    group = zarr.create_group(str(tmp_path / "a.zarr"), attributes={"ome": block})
    group["img"] = RAW
    group["img"].attrs["resolution"] = [30, 6, 6]
    assert open_volume(tmp_path / "a.zarr").voxel_size == (30, 6, 6)


def test_what_is_written_is_ome_zarr_05(tmp_path):
    write_volume(
        tmp_path / "a.zarr",
        np.stack([RAW, RAW]),
        axes="czyx",
        voxel_size=(30, 6, 6),
        offset=(60, 0, 12),
        attributes={"offsets": [[0, 0, 1], [0, 1, 0]], "none": None},
    )
    metadata = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["attributes"]["ome"]["version"] == "0.5"
    (scales,) = metadata["attributes"]["ome"]["multiscales"]
    space = {"type": "space", "unit": "nanometer"}
    assert scales["axes"] == [
        {"name": "c", "type": "channel"},
        *({"name": name, **space} for name in "zyx"),
    ]
    assert scales["datasets"] == [
        {
            "path": "main",
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 30, 6, 6]},
                {"type": "translation", "translation": [0, 60, 0, 12]},
            ],
        }
    ]
    array = zarr.open_array(str(tmp_path / "a.zarr" / "main"), mode="r")
    assert array.metadata.dimension_names == ("c", "z", "y", "x")
    np.testing.assert_array_equal(array[...], np.stack([RAW, RAW]))
    assert open_volume(tmp_path / "a.zarr").offset == (60, 0, 12)
    assert read_attributes(tmp_path / "a.zarr")["none"] is None


def test_broken_metadata_and_chunks_are_one_line(tmp_path):
    write_volume(tmp_path / "a.zarr", RAW, axes="zyx", voxel_size=None, attributes={})
    assert open_volume(tmp_path / "a.zarr").voxel_size is None
    (chunk,) = (path for path in (tmp_path / "a.zarr/main/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:30])
    with pytest.raises(UserError, match="cannot read"):
        open_volume(tmp_path / "a.zarr")[...]
    (tmp_path / "a.zarr" / "main" / "zarr.json").write_text('{"node_type": "array"')
    with pytest.raises(UserError, match="not valid JSON"):
        open_volume(tmp_path / "a.zarr")


def test_a_folder_without_arrays_is_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(UserError, match="holds no data set"):
        open_volume(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / ".zarray").write_text('{"zarr_format": 2}')
    with pytest.raises(UserError, match="cannot open"):
        open_volume(tmp_path / "a.zarr")
