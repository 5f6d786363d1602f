import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from emseg.errors import UserError
from emseg.volumes import open_volume, read_attributes, write_volume

RAW = np.random.default_rng(0).integers(0, 255, (10, 11, 12), np.uint8)


def multiscale(*, axes="zyx", unit="micrometer", scales):
    spatial = [{"name": a, "type": "space", **({"unit": unit} if unit else {})} for a in "zyx"]
    channel = [{"name": "c", "type": "channel"}] * axes.count("c")
    return {
        "multiscales": [
            {
                "axes": channel + spatial,
                "datasets": [
                    {"path": name, "coordinateTransformations": transforms}
                    for name, transforms in scales.items()
                ],
            }
        ]
    }


@pytest.mark.parametrize("version", [2, 3])
def test_a_root_array_and_an_array_in_a_group(version):
    zarr.save_array("root.zarr", RAW, zarr_format=version)
    np.testing.assert_array_equal(open_volume("root.zarr")[...], RAW)
    group = zarr.create_group("a.zarr", zarr_format=version)
    group["img"], group["deep/seg"] = RAW, RAW + 1
    for location in ("a.zarr/img", "a.zarr:img"):
        np.testing.assert_array_equal(open_volume(location)[...], RAW)
    np.testing.assert_array_equal(open_volume("a.zarr/deep")[...], RAW + 1)
    with pytest.raises(UserError, match="several data sets.*deep/seg, img"):
        open_volume("a.zarr")
    with pytest.raises(UserError, match="did you mean 'img'"):
        open_volume("a.zarr/imgs")


def test_arrays_in_a_plain_folder():
    image = np.stack([RAW, RAW + 1], axis=-1)
    zarr.save_array("data.zarr/img", image, zarr_format=2)
    zarr.save_array("data.zarr/seg", RAW, zarr_format=2)
    volume = open_volume("data.zarr/img", axes="xyzc")
    assert (volume.axes, volume.channels, volume.shape) == ("xyz", 2, RAW.shape)
    np.testing.assert_array_equal(volume[...], np.moveaxis(image, -1, 0))
    with pytest.raises(UserError, match="axes=czyx"):
        open_volume("data.zarr/img")


@pytest.mark.parametrize(("version", "ome"), [(2, "0.4"), (3, "0.5")])
def test_ome_zarr_tells_scale_translation_axes_and_array(version, ome):
    block = multiscale(
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
    group = zarr.create_group("a.zarr", zarr_format=version, attributes=attributes)
    group["0"], group["1"] = np.stack([RAW, RAW]), np.stack([RAW, RAW])[..., ::2, ::2]
    volume = open_volume("a.zarr")
    assert volume.location.endswith(":0") and volume.channels == 2
    assert volume.voxel_size == pytest.approx((40, 4, 4))
    assert volume.offset == pytest.approx((200, 0, 200))
    coarse = open_volume("a.zarr/1")
    assert coarse.voxel_size == pytest.approx((40, 8, 8)) and coarse.offset is None
    assert open_volume("a.zarr", voxel_size=(1, 2, 3)).voxel_size == (1, 2, 3)


SCALE = {"type": "scale", "scale": [1, 1, 1]}


@pytest.mark.parametrize(
    ("transforms", "unit", "own", "size"),
    [
        ([SCALE], None, {}, None),
        ([SCALE, {"type": "scale", "path": "of_an_array"}], "micrometer", {}, None),
        ([SCALE, {"type": "translation", "path": "of_an_array"}], "micrometer", {}, None),
        # Attributes of the array itself win.
        ([SCALE], "micrometer", {"resolution": [30, 6, 6]}, (30, 6, 6)),
    ],
)
def test_what_a_multiscale_says_of_the_voxel_size(transforms, unit, own, size):
    block = multiscale(unit=unit, scales={"img": transforms})
    group = zarr.create_group("a.zarr", attributes={"ome": block})
    group["img"] = RAW
    group["img"].attrs.update(own)
    volume = open_volume("a.zarr")
    assert (volume.voxel_size, volume.offset, volume.axes) == (size, None, "zyx")


def test_versions_before_03_name_no_axes_and_no_place():
    block = {"multiscales": [{"version": "0.2", "datasets": [{"path": "0"}, {"path": "1"}]}]}
    group = zarr.create_group("a.zarr", zarr_format=2, attributes=block)
    group["0"], group["1"] = RAW, RAW[:, ::2, ::2]
    volume = open_volume("a.zarr")
    assert (volume.voxel_size, volume.offset, volume.axes) == (None, None, "zyx")
    np.testing.assert_array_equal(volume[...], RAW)


def test_what_is_written_is_ome_zarr_05():
    write_volume(
        "a.zarr",
        np.stack([RAW, RAW]),
        axes="czyx",
        voxel_size=(30, 6, 6),
        offset=(60, 0, 12),
        attributes={"offsets": [[0, 0, 1], [0, 1, 0]], "none": None},
    )
    metadata = json.loads(Path("a.zarr/zarr.json").read_text())
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
    array = zarr.open_array("a.zarr/main", mode="r")
    assert array.metadata.dimension_names == ("c", "z", "y", "x")
    np.testing.assert_array_equal(array[...], np.stack([RAW, RAW]))
    assert open_volume("a.zarr").offset == (60, 0, 12)
    assert read_attributes("a.zarr")["none"] is None


def test_broken_metadata_and_chunks_are_one_line():
    write_volume("a.zarr", RAW, axes="zyx")
    assert open_volume("a.zarr").voxel_size is None
    (chunk,) = (path for path in Path("a.zarr/main/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:30])
    with pytest.raises(UserError, match="cannot read"):
        open_volume("a.zarr")[...]
    Path("a.zarr/main/zarr.json").write_text('{"node_type": "array"')
    with pytest.raises(UserError, match="not valid JSON"):
        open_volume("a.zarr")


def test_a_folder_without_arrays_is_refused():
    Path("a.zarr").mkdir()
    with pytest.raises(UserError, match="holds no data set"):
        open_volume("a.zarr")
    Path("a.zarr/.zarray").write_text('{"zarr_format": 2}')
    with pytest.raises(UserError, match="cannot open"):
        open_volume("a.zarr")
