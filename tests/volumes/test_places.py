"""Which voxel of an image a label begins at, by what the files say."""

import h5py
import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes import open_volume
from emseg.volumes.places import begins_at, common_region, one_sided_offset

SHAPE = (4, 6, 8)
SIZE = (30, 6, 6)


@pytest.fixture
def volume(tmp_path):
    def write(name, shape=SHAPE, size=SIZE, offset=None, config=None, **attributes):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            file["a"] = np.zeros(shape, np.uint8)
            told = {"resolution": size, "offset": offset, **attributes}
            file["a"].attrs.update({key: value for key, value in told.items() if value is not None})
        return open_volume(path, voxel_size=config)

    return write


@pytest.mark.parametrize(
    ("label", "image", "expected"),
    [
        ({}, {}, (0, 0, 0)),
        ({"offset": (60, 6, -12)}, {"offset": (0, 0, 0)}, (2, 1, -2)),
        ({"offset": (60, 6, -12)}, {"offset": (30, 6, 6)}, (1, 0, -3)),
        ({"offset": (60, 6, 12), "shape": (1, 1, 1)}, {"offset": (0, 0, 0)}, (2, 1, 2)),
        # Where only one says it, or neither, they lie on one another.
        ({"offset": (60, 6, 12)}, {}, (0, 0, 0)),
        ({"size": None}, {}, (0, 0, 0)),
        ({}, {"size": None}, (0, 0, 0)),
        ({"offset": (60, 6, 12), "size": None}, {"offset": (0, 0, 0)}, (2, 1, 2)),
        ({"offset": (5, 5, 5), "size": None}, {"offset": (5, 5, 5), "size": None}, (0, 0, 0)),
        # Numbers of 32 bits, of micrometres, of TIFF.
        ({"offset": (60.4, 6.05, 11.98)}, {"offset": (0, 0, 0)}, (2, 1, 2)),
        ({"size": np.float32([30, 6.0001, 6])}, {}, (0, 0, 0)),
        (
            {"size": (0.03, 0.006, 0.006), "offset": (0.06, 0, 0), "unit": "um"},
            {"offset": (30, 0, 0)},
            (1, 0, 0),
        ),
        # The config corrects the voxel size of both, or says it where the image does not.
        ({"offset": (60, 6, 12)}, {"offset": (0, 0, 0), "config": (40, 4, 4)}, (2, 1, 2)),
        ({"size": (40, 4, 4)}, {"config": (40, 4, 4)}, (0, 0, 0)),
        ({"size": None}, {"config": (40, 4, 4)}, (0, 0, 0)),
    ],
)
def test_the_first_voxel_of_a_label_in_the_image(volume, label, image, expected):
    assert begins_at(volume("label", **label), volume("image", **image)) == expected


@pytest.mark.parametrize(
    ("label", "image", "told"),
    [
        ({"size": (30, 12, 12)}, {}, r"voxels of \[30, 12, 12\] nm.*of \[30, 6, 6\] nm"),
        ({}, {"size": None, "config": (40, 4, 4)}, r"\[30, 6, 6\] nm.*of \[40, 4, 4\] nm"),
        ({}, {"size": (20, 6, 6), "config": (40, 4, 4)}, r"\[30, 6, 6\] nm.*of \[40, 4, 4\] nm"),
        ({"offset": (15, 0, 0)}, {"offset": (0, 0, 0)}, r"\[0.5, 0, 0\] voxels apart"),
        ({"shape": (4, 6, 7)}, {}, r"shape \(4, 6, 7\)"),
        ({"shape": (4, 6, 7), "offset": (30, 0, 0)}, {}, r"shape \(4, 6, 7\)"),
        (
            {"offset": (15, 0, 0), "size": None},
            {"offset": (0, 0, 0), "size": None},
            "voxels of a size that neither has",
        ),
    ],
)
def test_volumes_that_do_not_fit_are_refused_naming_both(volume, label, image, told):
    with pytest.raises(UserError, match=told) as refused:
        begins_at(volume("label", **label), volume("image", **image))
    assert "label.h5:a" in str(refused.value) and "image.h5:a" in str(refused.value)


def test_an_offset_that_one_alone_has_is_told(volume):
    moved, bare, still = volume("a", offset=(60, 0, 0)), volume("b"), volume("c", offset=(0, 0, 0))
    for pair in ((moved, bare), (bare, moved)):
        assert "a.h5:a begins at [60, 0, 0] nm" in one_sided_offset(*pair)
    for pair in ((moved, still), (bare, bare), (bare, still), (moved, moved)):
        assert one_sided_offset(*pair) is None


def test_the_common_region():
    one, other = ((0, 0, 0), (4, 6, 8)), ((2, -1, 3), (9, 5, 4))
    assert common_region([one, other]) == ((2, 0, 3), (4, 5, 4))
    assert common_region([one, ((4, 0, 0), (5, 6, 8))]) is None
