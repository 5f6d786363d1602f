from pathlib import Path

import pytest

from emseg.errors import UserError
from emseg.volumes.location import output_format, parse_location, pick_dataset, require_there


@pytest.mark.parametrize(
    ("text", "path", "key", "kind"),
    [
        ("a/b.h5", "a/b.h5", "", "hdf5"),
        ("a/b.h5:volumes/raw", "a/b.h5", "volumes/raw", "hdf5"),
        ("a/b.h5/volumes/raw", "a/b.h5", "volumes/raw", "hdf5"),
        ("a/b.h5:/volumes/raw/", "a/b.h5", "volumes/raw", "hdf5"),
        ("b.HDF5:main", "b.HDF5", "main", "hdf5"),
        ("b.hdf", "b.hdf", "", "hdf5"),
        ("a.h5.d/b.v1.zarr/img", "a.h5.d/b.v1.zarr", "img", "zarr"),
        ("b.ome.zarr:img/0", "b.ome.zarr", "img/0", "zarr"),
        ("/data/b.ome.tif", "/data/b.ome.tif", "", "tiff"),
        ("../b.tiff", "../b.tiff", "", "tiff"),
    ],
)
def test_a_location_is_a_path_a_key_and_a_format(text, path, key, kind):
    parsed = parse_location(text)
    assert (parsed.path, parsed.key, parsed.format) == (Path(path), key, kind)
    assert parse_location(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["a/b.nii", "a/b", "", ".h5", "a.h5x/b"])
def test_other_suffixes_are_refused_with_those_that_are_known(text):
    with pytest.raises(UserError, match=r"\.h5.*\.zarr.*\.tif"):
        parse_location(text)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("SNEMI/train_input.tif", "'SNEMI/train_input.tif' does not exist; did you mean '.*-input"),
        ("SNEMI3/train-input.tif", "there is no folder 'SNEMI3'; did you mean 'SNEMI'"),
        ("row.h5", "'row.h5' does not exist; did you mean 'raw.h5'"),
        ("folder.h5", "is a folder"),
        ("file.zarr", "is a file"),
    ],
)
def test_what_is_not_there_or_of_another_kind_is_refused(location, message):
    for folder in ("SNEMI", "folder.h5"):
        Path(folder).mkdir()
    for file in ("SNEMI/train-input.tif", "raw.h5", "file.zarr"):
        Path(file).touch()
    with pytest.raises(UserError, match=message):
        require_there(parse_location(location))


@pytest.mark.parametrize(
    ("keys", "wanted", "found"),
    [
        (["volumes/raw"], "", "volumes/raw"),
        (["main", "mask"], "", "main"),
        (["a", "b"], "b", "b"),
        (["volumes/raw", "other"], "volumes", "volumes/raw"),
        (["g/main", "g/mask", "other"], "g", "g/main"),
    ],
)
def test_the_data_set_that_is_meant(keys, wanted, found):
    assert pick_dataset(keys, wanted, where=Path("a.h5")) == found


@pytest.mark.parametrize(
    ("keys", "wanted", "message"),
    [
        (["volumes/raw", "volumes/labels"], "", r"several.*volumes/labels, volumes/raw"),
        (["raw", "labels"], "label", r"did you mean 'labels'.*allowed: labels, raw"),
        (["vol/a", "vol/b", "main"], "vol", "several.*vol/a, vol/b"),
        ([], "", "holds no data set"),
    ],
)
def test_an_unclear_data_set_lists_what_is_there(keys, wanted, message):
    with pytest.raises(UserError, match=message):
        pick_dataset(keys, wanted, where=Path("a.h5"))


def test_only_hdf5_and_zarr_are_written():
    assert [output_format(Path(name)) for name in ("a.h5", "a.zarr")] == ["hdf5", "zarr"]
    for name in ("a.tif", "a.npy", "a"):
        with pytest.raises(UserError, match=r"\.h5, \.hdf5, \.hdf, \.zarr"):
            output_format(Path(name))
