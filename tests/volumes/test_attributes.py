import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes.attributes import (
    checked_voxel_size,
    plain,
    stored_offset,
    stored_voxel_size,
    with_place,
)


def test_plain_leaves_nothing_of_numpy():
    value = {"a": np.float32(0.5), "b": (np.int64(3), [np.bool_(True)]), "c": np.eye(2), "d": b"x"}
    found = plain(value)
    assert found == {"a": 0.5, "b": [3, [True]], "c": [[1, 0], [0, 1]], "d": "x"}
    assert type(found["a"]) is float and type(found["b"][0]) is int and found["b"][1][0] is True


@pytest.mark.parametrize("value", [{1: 2}, object(), {"a": {3}}])
def test_plain_refuses_what_no_file_holds(value):
    with pytest.raises(TypeError, match="attribute"):
        plain(value)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"resolution": [30, 6, 6]}, (30, 6, 6)),
        ({"voxel_size": [30, 6, 6], "unit": "nm"}, (30, 6, 6)),
        ({"resolution": [0.03, 0.006, 0.006], "unit": "um"}, (30, 6, 6)),
        ({"element_size_um": [0.03, 0.006, 0.006]}, (30, 6, 6)),
        ({"resolution": [1, 2, 3], "units": ["nm", "nanometer", "micrometer"]}, (1, 2, 3000)),
        ({"resolution": [1, 1, 1], "unit": "pixel"}, None),
        ({"resolution": [1, 1, 1], "unit": None}, None),
        ({"resolution": [1, 1, 1], "unit": 1e-9}, None),
        ({"resolution": [1, 1, 1], "units": [1, None, "nm"]}, None),
        ({"resolution": [1, 1, 1], "units": {}}, None),
        ({"offset": [0, 0, 0]}, None),
        ({"transform": {"scale": [4, 3, 2], "units": ["nm"] * 3}}, (4, 3, 2)),
        ({"transform": {"scale": [2, 3, 4], "units": ["nm"] * 3, "ordering": "F"}}, (4, 3, 2)),
        ({"transform": "affine"}, None),
    ],
)
def test_voxel_size_is_in_nanometres(attributes, expected):
    found = stored_voxel_size(attributes, where="'a'")
    assert found == (expected if expected is None else pytest.approx(expected))


def test_of_one_number_for_each_axis_those_of_space_count():
    stored = {"resolution": [1, 30, 6, 6], "units": ["", "nm", "nm", "nm"], "offset": [0, 5, 6, 7]}
    assert stored_voxel_size(stored, where="'a'", order=(1, 2, 3)) == (30, 6, 6)
    assert stored_offset(stored, where="'a'", order=(1, 2, 3)) == (5, 6, 7)
    assert stored_voxel_size({"resolution": [6, 6]}, where="'a'", order=(None, 0, 1)) is None
    with pytest.raises(UserError, match=r"voxel size \[6.0, 6.0\] of 'a' must be three"):
        stored_voxel_size({"resolution": [6, 6]}, where="'a'")


def test_offset_is_in_nanometres():
    assert stored_offset({"offset": [1, -2, 0], "unit": "um"}, where="'a'") == (1000, -2000, 0)
    assert stored_offset({}, where="'a'") is None
    moved = {"transform": {"scale": [1, 1, 1], "translate": [7, 8, 9]}}
    assert stored_offset(moved, where="'a'") == (7, 8, 9)
    with pytest.raises(UserError, match="offset .* of 'a' must be finite"):
        stored_offset({"offset": [0, float("inf"), 0]}, where="'a'")


@pytest.mark.parametrize("values", [[1, 2], [1, 2, 0], [1, 2, -3], [1, 2, float("nan")], 5, "abc"])
def test_a_wrong_voxel_size_is_refused(values):
    with pytest.raises(UserError, match="voxel size .* of 'a' must be"):
        checked_voxel_size(values, where="'a'")


def test_the_place_given_replaces_the_place_in_the_attributes():
    old = {"axes": "czyx", "voxel_size": [1, 1, 1], "unit": "um", "offset": [5, 5, 5], "n": 1}
    old |= {"axis_names": ["c^", "x", "y", "z"], "_ARRAY_DIMENSIONS": ["c", "x", "y", "z"]}
    stored = with_place(old, axes="zyx", voxel_size=(30, 6, 6), offset=None)
    assert stored == {"axes": "zyx", "resolution": [30, 6, 6], "n": 1}
