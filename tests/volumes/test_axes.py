"""Which stored axis is which: by the config, by the file, by the shape."""

import json

import pytest

from emseg.errors import UserError
from emseg.volumes.axes import arrange

VIGRA = {"axes": [{"key": "x", "typeFlags": 2}, {"key": "y"}, {"key": "z"}, {"key": "c"}]}


def seen(shape, asked=None, stated=None):
    found = arrange(shape, asked, stated=stated, where="'a'")
    return found.letters, found.order, found.channel


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((5, 6, 7), None, ("zyx", (0, 1, 2), None)),
        ((5, 6, 7), "xyz", ("xyz", (0, 1, 2), None)),
        ((5, 6, 7), "ZYX", ("zyx", (0, 1, 2), None)),
        ((2, 5, 6, 7), "czyx", ("czyx", (1, 2, 3), 0)),
        ((5, 6, 7, 2), "xyzc", ("xyzc", (0, 1, 2), 3)),
        ((5, 2, 6, 7), "zcyx", ("zcyx", (0, 2, 3), 1)),
        # Of length 1, and no space.
        ((1, 5, 6, 7), None, ("zyx", (1, 2, 3), None)),
        ((1, 1, 5, 6, 7), None, ("zyx", (2, 3, 4), None)),
        ((5, 1, 6, 7), None, ("zyx", (0, 2, 3), None)),
        ((5, 6, 7, 1), None, ("zyx", (0, 1, 2), None)),
        ((1, 5, 6, 7, 1), None, ("zyx", (1, 2, 3), None)),
        ((1, 1, 6, 7), None, ("zyx", (1, 2, 3), None)),
        ((1, 6, 7), None, ("zyx", (0, 1, 2), None)),
        ((5, 1, 1), None, ("zyx", (0, 1, 2), None)),
        ((1, 5, 6, 7), "czyx", ("czyx", (1, 2, 3), 0)),
        ((1, 5, 6, 7), "xyz", ("xyz", (1, 2, 3), None)),
        ((1, 2, 5, 6, 7), "tczyx", ("czyx", (2, 3, 4), 1)),
        ((1, 2, 5, 6, 7), "czyx", ("czyx", (2, 3, 4), 1)),
        # One section.
        ((6, 7), None, ("yx", (None, 0, 1), None)),
        ((6, 7), "xy", ("xy", (None, 0, 1), None)),
        ((6, 7), "zyx", ("yx", (None, 0, 1), None)),
        ((6, 7), "xyz", ("xy", (None, 0, 1), None)),
        ((6, 7, 3), "yxc", ("yxc", (None, 0, 1), 2)),
        ((3, 6, 7), "cyx", ("cyx", (None, 1, 2), 0)),
    ],
)
def test_the_config_and_the_shape_say_which_axis_is_which(shape, axes, expected):
    assert seen(shape, axes) == expected


@pytest.mark.parametrize(
    ("stated", "shape", "expected"),
    [
        ({"dimension_names": ["x", "y", "z"]}, (5, 6, 7), "xyz"),
        ({"dimension_names": ("c", "x", "y", "z")}, (2, 5, 6, 7), "cxyz"),
        ({"_ARRAY_DIMENSIONS": ["Z", "Y", "X"]}, (5, 6, 7), "zyx"),
        ({"axis_names": ["c^", "z", "y", "x"]}, (2, 5, 6, 7), "czyx"),
        ({"axis_names": ["c0^", "d0", "d1", "d2"]}, (2, 5, 6, 7), "czyx"),
        ({"axis_names": ["t^", "c^", "x", "y", "z"]}, (1, 1, 5, 6, 7), "cxyz"),
        ({"axistags": json.dumps(VIGRA)}, (5, 6, 7, 2), "xyzc"),
        ({"axistags": VIGRA}, (5, 6, 7, 2), "xyzc"),
        ({"DIMENSION_LABELS": ["x", "", "z"]}, (5, 6, 7), "xyz"),
        ({"dimension scales": ["x", "y", "z"]}, (5, 6, 7), "xyz"),
        ({"transform": {"axes": ["x", "y", "z"]}}, (5, 6, 7), "xyz"),
        ({"transform": {"axes": ["x", "y", "z"], "ordering": "F"}}, (5, 6, 7), "zyx"),
        ({"axes": "xyz"}, (5, 6, 7), "xyz"),
        ({"axes": "Channel, Z, Y, X"}, (2, 5, 6, 7), "czyx"),
        ({"axes": [{"name": "a", "type": "channel"}, *"zyx"]}, (2, 5, 6, 7), "czyx"),
        ({"axis_order": "xyz"}, (5, 6, 7), "xyz"),
        ({"dimension_names": ["time", "z", "y", "x"]}, (1, 5, 6, 7), "zyx"),
        ({"dimension_names": ["time", "y", "x"]}, (5, 6, 7), "zyx"),
        ({"dimension_names": ["section", "y", "x"]}, (5, 6, 7), "zyx"),
        ({"dimension_names": ["offset", "x", "y", "z"]}, (6, 5, 6, 7), "cxyz"),
        ({"dimension_names": ["y", "x"]}, (6, 7), "yx"),
        ({"dimension_names": ["x", "y"]}, (6, 7), "xy"),
        # What says nothing.
        ({"dimension_names": ["dim_0", "dim_1", "dim_2"]}, (5, 6, 7), "zyx"),
        ({"dimension scales": ["phony_dim_0", "phony_dim_1", "phony_dim_2"]}, (5, 6, 7), "zyx"),
        ({"dimension_names": [None, None, None]}, (5, 6, 7), "zyx"),
        (
            {"axes": 3, "axistags": "[no json", "transform": [[1.0, 0.0], [0.0, 1.0]]},
            (5, 6, 7),
            "zyx",
        ),
        # Two that agree.
        ({"dimension_names": ["x", "y", "z"], "axes": "xyz"}, (5, 6, 7), "xyz"),
        ({"dimension_names": ["dim_0", "y", "x"], "axis_names": ["z", "y", "x"]}, (5, 6, 7), "zyx"),
        ({"axes": "zyx", "dimension_names": ["c", "z", "y", "x"]}, (1, 5, 6, 7), "czyx"),
    ],
)
def test_files_name_their_axes_in_many_ways(stated, shape, expected):
    letters, order, _ = seen(shape, stated=stated)
    assert letters == expected
    assert [axis for axis in order if axis is not None] == sorted(set(order) - {None})


def test_an_axis_that_the_file_files_under_time_may_be_space():
    assert seen((5, 6, 7), "xyz", {"axes": "tyz"}) == ("xyz", (0, 1, 2), None)


@pytest.mark.parametrize(
    ("shape", "axes", "stated", "message"),
    [
        ((2, 5, 6, 7), None, {}, "axes=czyx or axes=zyxc"),
        ((1, 2, 5, 6, 7), None, {}, "axes=czyx or axes=zyxc"),
        ((2, 3, 5, 6, 7), None, {}, "5 axes"),
        ((6,), None, {}, "1 axes"),
        ((), None, {}, "0 axes"),
        ((2, 3, 5, 6, 7), "tczyx", {}, "5 axes"),
        ((2, 5, 6, 7), None, {"axes": "tzyx"}, "4 axes"),
        ((5, 6, 7), "czyx", {}, "do not fit"),
        ((2, 5, 6, 7), "zyx", {}, "do not fit"),
        ((5, 6, 7), "zyy", {}, "letters"),
        ((5, 6, 7), "abc", {}, "letters"),
        ((5, 6, 7), None, {"axes": "czyx"}, "axes 'czyx' do not fit shape"),
        ((5, 6, 7), None, {"axes": "zyy"}, "two of them are 'y'"),
        (
            (5, 6, 7),
            "zyx",
            {"dimension_names": ["x", "y", "z"]},
            "axes 'zyx' contradict 'a', whose dimension_names names them 'xyz': change axes, or",
        ),
        ((2, 5, 6, 7), "zyxc", {"axis_names": ["c^", "z", "y", "x"]}, "contradict .*'czyx'"),
        ((5, 6, 7), "zyx", {"DIMENSION_LABELS": ["x", "", "z"]}, r"contradict .*'x\?z'"),
        (
            (5, 6, 7),
            None,
            {"axes": "zyx", "dimension_names": ["x", "y", "z"]},
            "names its axes twice, 'zyx' in axes and 'xyz' in dimension_names",
        ),
    ],
)
def test_axes_that_do_not_fit_are_refused(shape, axes, stated, message):
    with pytest.raises(UserError, match=message):
        seen(shape, axes, stated)
