import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.volumes import open_volume, read_attributes, write_volume

RAW = np.arange(6 * 7 * 8, dtype=np.uint8).reshape(6, 7, 8)


def make(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key.replace("__", "/")] = array
    return path


def test_data_sets_are_found_by_key_alone_and_behind_links():
    path = make(Path("a.h5"), volumes__raw=RAW)
    assert open_volume(path).location == f"{path}:volumes/raw"
    with h5py.File(path, "a") as file:
        file["main"], file["short"] = RAW + 1, h5py.SoftLink("/volumes/raw")
    for location in (f"{path}:volumes/raw", f"{path}/volumes/raw", f"{path}:volumes", "a.h5:short"):
        np.testing.assert_array_equal(open_volume(location)[...], RAW)
    np.testing.assert_array_equal(open_volume(path)[...], RAW + 1)


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_file_is_one_line(part):
    path = Path("a.h5")
    make(path, main=np.random.default_rng(0).integers(0, 255, (32, 64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(UserError, match=r"^'.*a\.h5' is truncated[^\n]*$"):
        open_volume(path)


def test_a_damaged_chunk_is_one_line():
    path = Path("a.h5")
    noise = np.random.default_rng(0).integers(0, 255, (16, 64, 64), np.uint8)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("main", data=noise, chunks=noise.shape, compression="gzip")
        place = data.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read '.*:main'"):
        open_volume(path)[...]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"main": np.zeros((0, 4, 4), np.uint8)}, "is empty"),
        ({"main": np.full((2, 2, 2), b"word")}, "not numbers"),
        ({"main": np.float32(2)}, "0 axes"),
        ({}, "holds no data set"),
    ],
)
def test_other_content_is_refused(arrays, message):
    with pytest.raises(UserError, match=message):
        open_volume(make(Path("a.h5"), **arrays))
    Path("a.h5").write_text("no data here")
    with pytest.raises(UserError, match="not an HDF5 file"):
        open_volume("a.h5")


def test_foreign_attributes_are_read_as_plain_values():
    path = make(Path("a.h5"), volumes__raw=RAW)
    with h5py.File(path, "a") as file:
        attributes = file["volumes/raw"].attrs
        attributes["resolution"] = np.array([40, 4, 4])
        attributes["offset"] = np.array([80.0, 0, 0])
        attributes["unit"] = "nm"
        attributes["names"] = np.array(["a", "b"], dtype=h5py.string_dtype())
        attributes["reference"] = file["volumes"].ref
        attributes["nothing"] = h5py.Empty("f4")
    volume = open_volume(path)
    assert volume.voxel_size == (40, 4, 4)
    assert volume.offset == (80, 0, 0)
    expected = {"resolution": [40, 4, 4], "offset": [80, 0, 0], "unit": "nm", "names": ["a", "b"]}
    assert volume.attributes == read_attributes(path) == expected
    assert json.loads(json.dumps(expected)) == volume.attributes
    assert open_volume(path, voxel_size=(30, 6, 6)).voxel_size == (30, 6, 6)


def test_bytes_that_are_no_text_do_not_stop_the_reading():
    path = make(Path("a.h5"), main=RAW)
    with h5py.File(path, "a") as file:
        file["main"].attrs["resolution"] = [0.03, 0.006, 0.006]
        file["main"].attrs["unit"] = np.bytes_("µm".encode("latin-1"))
    volume = open_volume(path)
    assert volume.voxel_size is None
    np.testing.assert_array_equal(volume[...], RAW)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(attributes=st.dictionaries(names.map("a_".__add__), values, max_size=5))
def test_attributes_come_back_equal(attributes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5"
        place = {"axes": "zyx", "voxel_size": None, "offset": None}
        write_volume(path, RAW, attributes=attributes, **place)
        found = read_attributes(path)
    assert found == {**attributes, "axes": "zyx"}
    assert repr(sorted(found.items())) == repr(sorted({**attributes, "axes": "zyx"}.items()))


def test_simple_attributes_are_native():
    attributes = {"fingerprint": "ab", "step": 3, "rate": 0.5, "flags": [1, 2], "deep": {"a": None}}
    write_volume(Path("a.h5"), RAW, axes="zyx", voxel_size=(30, 6, 6), attributes=attributes)
    with h5py.File(Path("a.h5")) as file:
        stored = dict(file["main"].attrs)
    assert stored["fingerprint"] == "ab" and stored["step"] == 3 and stored["rate"] == 0.5
    np.testing.assert_array_equal(stored["resolution"], [30, 6, 6])
    assert json.loads(stored["deep"]) == {"a": None}


def test_files_are_chunked_and_compressed():
    labels = np.repeat(np.arange(40, dtype=np.uint32), 300 * 200).reshape(40, 300, 200)
    write_volume(Path("a.h5"), labels, axes="zyx")
    with h5py.File(Path("a.h5")) as file:
        assert file["main"].chunks == (16, 128, 128)
        np.testing.assert_array_equal(file["main"][...], labels)
    assert Path("a.h5").stat().st_size < labels.nbytes / 20


def test_a_file_can_be_open_elsewhere_in_the_process():
    path = make(Path("a.h5"), main=RAW)
    volume = open_volume(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(open_volume(path)[...], file["main"][...])
    np.testing.assert_array_equal(volume[...], RAW)


@pytest.mark.real
def test_the_cremi_layout_of_real_files(real_data):
    path = real_data / "fib25" / "training_sample2.h5"
    volume = open_volume(f"{path}:volumes/raw")
    assert volume.voxel_size == (10, 10, 10) and volume.shape == (250, 250, 250)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(
            volume.read((60, 70, 80), (70, 90, 110)), file["volumes/raw"][60:70, 70:90, 80:110]
        )
    with pytest.raises(UserError, match="volumes/labels/neuron_ids"):
        open_volume(path)
