"""A volume written by any convention, in any stored order, reads back as the same voxels."""

import json
import tempfile
from itertools import permutations
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.volumes import Volume, open_volume, write_volume

SIZE = {"z": 30.0, "y": 6.0, "x": 4.0}
OFFSET = {"z": 120.0, "y": -12.0, "x": 8.0}
NAMES = {"z": "Z", "y": "y", "x": "X", "c": "channel", "t": "time"}


def place(order, key="resolution"):
    space = [axis for axis in order if axis in SIZE]
    return {key: [SIZE[a] for a in space], "offset": [OFFSET[a] for a in space]}


def zarr_3(folder, array, order):
    group = zarr.create_group(str(folder / "a.zarr"), zarr_format=3)
    names = [NAMES[axis] for axis in order]
    stored = group.create_array("a", data=array, dimension_names=names)
    stored.attrs.update(place(order))
    return folder / "a.zarr"


def xarray_2(folder, array, order):
    stored = zarr.create_array(str(folder / "a.zarr"), data=array, zarr_format=2)
    stored.attrs.update({"_ARRAY_DIMENSIONS": [NAMES[axis] for axis in order], **place(order)})
    return folder / "a.zarr"


def funlib(folder, array, order):
    stored = zarr.create_array(str(folder / "a.zarr"), data=array, zarr_format=2)
    names = [axis if axis in SIZE else f"{axis}^" for axis in order]
    units = ["nm" for axis in order if axis in SIZE]
    stored.attrs.update({"axis_names": names, "units": units, **place(order, "voxel_size")})
    return folder / "a.zarr"


def cosem(folder, array, order):
    group = zarr.create_group(str(folder / "a.zarr"), zarr_format=2)
    stored = group.create_array("s0", data=array)
    stored.attrs["transform"] = {
        "axes": [*order],
        "scale": [SIZE.get(axis, 1.0) for axis in order],
        "translate": [OFFSET.get(axis, 0.0) for axis in order],
        "units": ["nm"] * len(order),
    }
    return folder / "a.zarr"


def ome(folder, array, order):
    kinds = {"c": "channel", "t": "time"}
    axes = [
        {"name": axis, "type": kinds[axis]}
        if axis in kinds
        else {"name": axis, "type": "space", "unit": "nanometer"}
        for axis in order
    ]
    transforms = [
        {"type": "scale", "scale": [SIZE.get(axis, 1.0) for axis in order]},
        {"type": "translation", "translation": [OFFSET.get(axis, 0.0) for axis in order]},
    ]
    scales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}]
    attributes = {"ome": {"version": "0.5", "multiscales": scales}}
    zarr.create_group(str(folder / "a.zarr"), attributes=attributes)["0"] = array
    return folder / "a.zarr"


def hdf5(folder, array, order, **attributes):
    with h5py.File(folder / "a.h5", "w") as file:
        file["raw"] = array
        file["raw"].attrs.update({**place(order), **attributes})
    return folder / "a.h5"


def vigra(folder, array, order):
    tags = {"axes": [{"key": axis, "typeFlags": 2, "resolution": 0} for axis in order]}
    return hdf5(folder, array, order, axistags=json.dumps(tags))


def labelled_dimensions(folder, array, order):
    path = hdf5(folder, array, order)
    with h5py.File(path, "a") as file:
        for axis, name in enumerate(order):
            file["raw"].dims[axis].label = name
    return path


def dimension_scales(folder, array, order):
    path = hdf5(folder, array, order)
    with h5py.File(path, "a") as file:
        for axis, name in enumerate(order):
            file[f"coordinates/{name}"] = np.arange(array.shape[axis])
            file[f"coordinates/{name}"].make_scale()
            file["raw"].dims[axis].attach_scale(file[f"coordinates/{name}"])
    return f"{path}:raw"


def own(folder, array, order):
    return hdf5(folder, array, order, axes=order)


WRITERS = (
    zarr_3,
    xarray_2,
    funlib,
    cosem,
    ome,
    vigra,
    labelled_dimensions,
    dimension_scales,
    own,
)
ORDERS = ["".join(order) for axes in ("zyx", "czyx", "tczyx") for order in permutations(axes)]


def canonical(volume: Volume) -> np.ndarray:
    """The voxels in the order z, y, x, channels first; as `Volume.in_order` has them, too."""
    spatial = tuple(volume.axes.index(axis) - 3 for axis in "zyx")
    array = volume[...]
    turned = array.transpose([*range(array.ndim - 3), *(array.ndim + axis for axis in spatial)])
    np.testing.assert_array_equal(volume.in_order("zyx")[...], turned)
    return turned


@settings(deadline=None, max_examples=80, derandomize=True)
@given(
    write=st.sampled_from(WRITERS), order=st.sampled_from(ORDERS), seed=st.integers(0, 2**32 - 1)
)
def test_every_convention_in_every_order_reads_back(write, order, seed):
    rng = np.random.default_rng(seed)
    lengths = dict(zip("zyx", rng.integers(1, 6, 3), strict=True)) | {"c": rng.integers(1, 4)}
    lengths["t"] = 1
    names = [axis for axis in "tczyx" if axis in order]
    array = rng.integers(0, 255, [lengths[axis] for axis in names], np.uint8)
    stored = array.transpose([names.index(axis) for axis in order])
    with tempfile.TemporaryDirectory() as folder:
        volume = open_volume(write(Path(folder), stored, order))
        voxels = canonical(volume)
    assert volume.axes == "".join(axis for axis in order if axis in SIZE)
    assert volume.voxel_size == tuple(SIZE[axis] for axis in volume.axes)
    assert volume.offset == tuple(OFFSET[axis] for axis in volume.axes)
    assert volume.in_order("zyx").offset == tuple(OFFSET.values())
    np.testing.assert_array_equal(voxels, array[0] if "t" in order else array)


@pytest.mark.parametrize("write", WRITERS)
def test_axes_that_contradict_the_file_are_refused(tmp_path, write):
    location = write(tmp_path, np.zeros((2, 3, 4), np.uint8), "xyz")
    with pytest.raises(UserError, match=r"axes 'zyx' contradict .* names them 'xyz': change axes"):
        open_volume(location, axes="zyx")
    assert open_volume(location, axes="xyz").axes == "xyz"


@pytest.mark.parametrize("name", ["a.h5", "a.zarr"])
def test_what_is_written_names_one_order(tmp_path, name):
    foreign = {"axis_names": ["x", "y", "z"], "_ARRAY_DIMENSIONS": ["x", "y", "z"]}
    array = np.zeros((2, 3, 4), np.uint8)
    write_volume(tmp_path / name, array, axes="zyx", voxel_size=None, attributes=foreign)
    assert open_volume(tmp_path / name).axes == "zyx"


def test_ome_and_imagej_stacks_name_their_sections(tmp_path):
    array = np.zeros((2, 3, 4), np.uint8)
    for name, options in (("a.ome.tif", {}), ("a.tif", {"imagej": True})):
        metadata = {"axes": "ZYX"}
        path = tmp_path / name
        tifffile.imwrite(path, array, metadata=metadata, photometric="minisblack", **options)
        with pytest.raises(UserError, match="contradict .* whose metadata names them 'zyx'"):
            open_volume(path, axes="xyz")
    tifffile.imwrite(tmp_path / "plain.tif", array, photometric="minisblack")
    assert open_volume(tmp_path / "plain.tif", axes="xyz").axes == "xyz"


def test_a_part_of_an_arranged_array_reads_as_numpy_slices(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (1, 4, 2, 5, 1, 6), np.uint8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = array
        file["a"].dims[2].label = "c"
    volume = open_volume(tmp_path / "a.h5").in_order("xzy")
    turned = array[0, :, :, :, 0].transpose(1, 3, 0, 2)
    assert (volume.shape, volume.channels) == ((6, 4, 5), 2)
    np.testing.assert_array_equal(
        volume.crop((1, 0, 1), (6, 4, 5)).read((1, 1, 0), (4, 3, 2)), turned[:, 2:5, 1:3, 1:3]
    )
    np.testing.assert_array_equal(volume.select([1])[...], turned[1:])
    for letters in ("yx", "xy"):
        with h5py.File(tmp_path / f"{letters}.h5", "w") as file:
            file["a"] = array[0, 0, 0, :, 0]
            file["a"].attrs["axes"] = letters
        section = open_volume(tmp_path / f"{letters}.h5")
        assert (section.axes, section.shape) == (f"z{letters}", (1, 5, 6))
        np.testing.assert_array_equal(section[...][0], array[0, 0, 0, :, 0])
