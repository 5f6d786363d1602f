from math import hypot, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import distance_transform_edt, maximum_filter

from emseg.errors import UserError
from emseg.evaluation.borders import border_mask
from reference.metrics import near_borders

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8))
TRUTHS = SHAPES.flatmap(lambda s: arrays.arrays(np.int16, s, elements=st.integers(-1, 2)))


@settings(deadline=None, max_examples=100)
@given(truth=TRUTHS, distance=st.sampled_from([0, 0.5, 1, sqrt(2), sqrt(3), 2, 2.3, sqrt(8), 3.7]))
def test_edt_is_a_distance_in_the_section(truth, distance):
    found = border_mask(truth, mode="edt", distance=distance)
    expected = near_borders(truth, lambda dy, dx: sqrt(dy * dy + dx * dx) <= distance)
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, expected)


@settings(deadline=None, max_examples=60)
@given(truth=TRUTHS, distance=st.integers(0, 4))
def test_square_is_a_square_in_the_section(truth, distance):
    expected = near_borders(truth, lambda dy, dx: max(abs(dy), abs(dx)) <= distance)
    np.testing.assert_array_equal(border_mask(truth, mode="square", distance=distance), expected)


@pytest.fixture(scope="module")
def cells():
    """Sections of some objects, and one of a single label."""
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 9, (4, 6, 5)), np.ones((1, 9, 11), int)).astype(np.uint64)
    truth[2] = 2**63
    return truth


def test_scipy_agrees_where_there_are_borders(cells):
    for distance in (0, 1, 6.25):
        found = border_mask(cells, mode="edt", distance=distance)
        border = border_mask(cells, mode="edt", distance=0)
        for z in (0, 1, 3):
            expected = distance_transform_edt(~border[z]) <= distance
            np.testing.assert_array_equal(found[z], expected)
    square = border_mask(cells, mode="square", distance=2)
    np.testing.assert_array_equal(square, maximum_filter(border, size=(1, 5, 5)))


@pytest.mark.parametrize("mode", ["edt", "square"])
def test_a_section_of_one_label_is_left_alone(cells, mode):
    mask = border_mask(cells, mode=mode, distance=5)
    assert not mask[2].any() and mask[1].any() and mask[3].any()


def test_the_two_modes_differ_at_corners():
    truth = np.zeros((1, 9, 9), int)
    truth[:, 4, 4] = 1
    edt, square = (border_mask(truth, mode=mode, distance=1) for mode in ("edt", "square"))
    assert square.sum() - edt.sum() == 8
    assert all(hypot(y - 4, x - 4) > 2 for _, y, x in np.argwhere(square & ~edt))


@pytest.mark.parametrize(
    "mode, distance, words",
    [
        ("edt", -1, "distance -1 is out of range"),
        ("square", 1.5, "whole number"),
        ("sqare", 1, "unknown mode 'sqare'.*did you mean 'square'"),
    ],
)
def test_what_makes_no_mask_is_refused(cells, mode, distance, words):
    with pytest.raises(UserError, match=words):
        border_mask(cells, mode=mode, distance=distance)
