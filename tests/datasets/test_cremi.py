from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets.official import BACKGROUND, official
from emseg.datasets.cremi_files import (
    Annotations,
    read_annotations,
    write_annotations,
)
from emseg.errors import UserError
from emseg.volumes import open_volume

SHAPE = (4, 20, 30)


def annotated(path, **changes):
    """An official file with the sites 7 (pre) and 3 and 9 (post), 7 with both."""
    official(path, shape=SHAPE)
    stored = {
        "ids": np.array([7, 3, 9], np.uint64),
        "types": ["presynaptic_site", "postsynaptic_site", "postsynaptic_site"],
        "locations": np.array([[0, 0, 0], [40, 4, 7.9], [79.9, 12, 100]]),
        "presynaptic_site/partners": np.array([[7, 3], [7, 9]], np.uint64),
        "comments/target_ids": np.array([9], np.uint64),
        "comments/comments": ["unsure: à voir"],
    } | {key.replace("__", "/"): value for key, value in changes.items()}
    with h5py.File(path, "a") as file:
        group = file.create_group("annotations")
        group.attrs["offset"] = (40.0, 8.0, 4.0)
        for key, value in stored.items():
            if value is not None:
                texts = isinstance(value, list)
                group.create_dataset(key, data=value, dtype=h5py.string_dtype() if texts else None)
    return path


def test_an_official_file_is_read_in_place():
    clefts = np.full((2, 8, 8), BACKGROUND, np.uint64)
    image = official("a.hdf", shape=SHAPE, clefts=clefts, offset=(40.0, 16.0, 24.0))
    raw = open_volume("a.hdf:volumes/raw")
    assert (raw.axes, raw.voxel_size, raw.dtype) == ("zyx", (40, 4, 4), np.uint8)
    np.testing.assert_array_equal(raw[...], image)
    for name in ("neuron_ids", "clefts"):
        labels = open_volume(f"a.hdf:volumes/labels/{name}")
        assert (labels.voxel_size, labels.offset) == ((40, 4, 4), (40, 16, 24))
        np.testing.assert_array_equal(labels[...], clefts)


def test_sites_lie_where_the_offset_puts_them():
    path = annotated("a.hdf")
    found = read_annotations(path)
    assert found.ids.tolist() == [7, 3, 9] and found.ids.dtype == np.uint64
    assert found.types == ("presynaptic_site", "postsynaptic_site", "postsynaptic_site")
    assert found.locations.tolist() == [[40, 8, 4], [80, 12, 11.9], [119.9, 20, 104]]
    assert found.partners.tolist() == [[7, 3], [7, 9]]
    assert found.comments == {9: "unsure: à voir"}
    raw = open_volume(f"{path}:volumes/raw")
    voxels = found.voxels(raw)
    assert voxels.tolist() == [[1, 2, 1], [2, 3, 2], [2, 5, 26]] and voxels.dtype == np.int64
    # In a part of it, the same place has other numbers.
    assert found.voxels(raw.crop((1, 2, 3), (4, 20, 30)))[0].tolist() == [0, 0, -2]


def test_sites_are_written_as_they_are_read():
    path, image = "a.hdf", official("a.hdf", shape=SHAPE)
    first = read_annotations(annotated("b.hdf"))
    for _ in range(2):  # the second time in place of the first
        write_annotations(path, first)
        again = read_annotations(path)
        for name in ("ids", "locations", "partners"):
            np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
        assert (again.types, again.comments) == (first.types, first.comments)
    np.testing.assert_array_equal(open_volume(f"{path}:volumes/raw")[...], image)
    with h5py.File(path) as file:
        kinds = {key: file["annotations"][key].dtype for key in ("ids", "locations")}
        assert kinds == {"ids": np.uint64, "locations": np.float64}
        assert file["annotations/presynaptic_site/partners"].dtype == np.uint64
        assert file["annotations/types"].asstr()[0] == "presynaptic_site"
    lone = Annotations(np.array([1], np.uint64), ("presynaptic_site",), np.zeros((1, 3)))
    write_annotations("new.hdf", lone)
    assert read_annotations("new.hdf").partners.shape == (0, 2)
    with h5py.File("new.hdf") as file:
        assert file.attrs["file_format"] == "0.2"
    assert not [*Path().glob("*.tmp")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ids": np.array([7, 3], np.uint64)}, "2 ids, 3 types"),
        ({"ids": np.array([7, 3, 3], np.uint64)}, "the id 3 occurs twice"),
        ({"ids": None}, "are broken"),
        ({"locations": np.zeros((3, 2))}, "are broken"),
        ({"locations": np.full((3, 3), np.nan)}, "locations must be finite"),
        (
            {"types": ["presynaptic_site", "postsynaptic_site", "postsynapse_site"]},
            "unknown type 'postsynapse_site'; did you mean 'postsynaptic_site'",
        ),
        ({"presynaptic_site__partners": np.array([[7, 4]], np.uint64)}, "[7, 4]: 4 is not there"),
        (
            {"presynaptic_site__partners": np.array([[3, 7]], np.uint64)},
            "[3, 7]: 3 is a postsynaptic_site, no presynaptic_site",
        ),
        ({"presynaptic_site__partners": np.array([7, 3], np.uint64)}, "they are pairs"),
        ({"comments__target_ids": np.array([8], np.uint64)}, "a comment is on 8"),
        ({"comments__target_ids": np.array([7, 9], np.uint64)}, "are broken"),
    ],
)
def test_sites_that_do_not_fit_are_one_line(changes, told):
    path = annotated("a.hdf", **changes)
    with pytest.raises(UserError) as error:
        read_annotations(path)
    line = str(error.value)
    assert line.startswith(f"the annotations of {path}") and told in line and "\n" not in line


def test_no_sites_no_file_and_no_resolution():
    path = "sample_A+.hdf"
    official(path, shape=SHAPE)
    with pytest.raises(UserError, match="holds no 'annotations'"):
        read_annotations(path)
    with pytest.raises(UserError, match=r"does not exist; did you mean .*sample_A\+\.hdf"):
        read_annotations("sample_A.hdf")
    Path("text.hdf").write_text("no HDF5")
    sites = read_annotations(annotated("b.hdf"))
    with pytest.raises(UserError, match="is not an HDF5 file"):
        read_annotations("text.hdf")
    with pytest.raises(UserError, match="is not an HDF5 file"):
        write_annotations("text.hdf", sites)
    assert Path("text.hdf").read_text() == "no HDF5"
    with h5py.File("c.h5", "w") as file:
        file["main"] = np.zeros(SHAPE)
    with pytest.raises(UserError, match="has no resolution"):
        sites.voxels(open_volume("c.h5"))
