import numpy as np
import pytest

from emseg.errors import UserError
from emseg.volumes.attributes import (
    checked_voxel_size,
    plain,
    resolve_axes,
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
    ("shape", "axes", "expected"),
    [
        ((5, 6, 7), None, ("zyx", None)),
        ((5, 6, 7), "xyz", ("xyz", None)),
        ((5, 6, 7), "ZYX", ("zyx", None)),
        ((2, 5, 6, 7), "czyx", ("zyx", 0)),
        ((5, 6, 7, 2), "xyzc", ("xyz", 3)),
        ((5, 2, 6, 7), ["z", "c", "y", "x"], ("zyx", 1)),
    ],
)
def test_axes_are_kept_in_stored_order(shape, axes, expected):
    assert resolve_axes(shape, axes, where="'a'") == expected


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((2, 5, 6, 7), None, "axes=czyx or axes=zyxc"),
        ((5, 6), None, "2 axes"),
        ((1, 2, 5, 6, 7), "tczyx", "5 axes"),
        ((5, 6, 7), "czyx", "do not fit"),
        ((2, 5, 6, 7), "zyx", "do not fit"),
        ((5, 6, 7), "zyy", "letters"),
        ((5, 6, 7), "abc", "letters"),
        ((5, 6, 7), 3, "letters"),
    ],
)
def test_axes_that_do_not_fit_are_refused(shape, axes, message):
    with pytest.raises(UserError, match=message):
        resolve_axes(shape, axes, where="'a'")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"resolution": [30, 6, 6]}, (30, 6, 6)),
        ({"voxel_size": [30, 6, 6], "unit": "nm"}, (30, 6, 6)),
        ({"resolution": [0.03, 0.006, 0.006], "unit": "um"}, (30, 6, 6)),
        ({"resolution": [1, 2, 3], "units": ["nm", "nanometer", "micrometer"]}, (1, 2, 3000)),
        ({"resolution": [1, 1, 1], "unit": "pixel"}, None),
        ({"resolution": [1, 1, 1], "unit": None}, None),
        ({"resolution": [1, 1, 1], "unit": 1e-9}, None),
        ({"resolution": [1, 1, 1], "units": [1, None, "nm"]}, None),
        ({"resolution": [1, 1, 1], "units": {}}, None),
        ({"offset": [0, 0, 0]}, None),
    ],
)
def test_voxel_size_is_in_nanometres(attributes, expected):
    found = stored_voxel_size(attributes, where="'a'")
    assert found == (expected if expected is None else pytest.approx(expected))


def test_offset_is_in_nanometres():
    assert stored_offset({"offset": [1, -2, 0], "unit": "um"}, where="'a'") == (1000, -2000, 0)
    assert stored_offset({}, where="'a'") is None


@pytest.mark.parametrize("values", [[1, 2], [1, 2, 0], [1, 2, -3], [1, 2, float("nan")], 5, "abc"])
def test_a_wrong_voxel_size_is_refused(values):
    with pytest.raises(UserError, match="voxel size .* of 'a' must be"):
        checked_voxel_size(values, where="'a'")


def test_the_place_given_replaces_the_place_in_the_attributes():
    old = {"axes": "czyx", "voxel_size": [1, 1, 1], "unit": "um", "offset": [5, 5, 5], "n": 1}
    stored = with_place(old, axes="zyx", voxel_size=(30, 6, 6), offset=None)
    assert stored == {"axes": "zyx", "resolution": [30, 6, 6], "n": 1}
