import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.kernels.affinity import affinities, erode_labels, shift_edges
from reference.affinity import affinities_by_voxel, eroded_by_voxel, pairs_inside

SHAPES = st.tuples(*[st.integers(1, 5)] * 3)
SIDES = st.sampled_from(["source", "destination"])
# Offsets beyond the largest shape are drawn too: such a channel is empty, not an error.
OFFSETS = st.lists(st.tuples(*[st.integers(-6, 6)] * 3), min_size=1, max_size=4)
LABELS = SHAPES.flatmap(lambda s: arrays.arrays(np.int32, s, elements=st.integers(-1, 2)))


@settings(max_examples=60)
@given(labels=LABELS, offsets=OFFSETS, edge_side=SIDES)
def test_affinities_are_those_of_the_voxel_loop(labels, offsets, edge_side):
    values, mask = affinities(labels, offsets=offsets, edge_side=edge_side)
    expected_values, expected_mask = affinities_by_voxel(labels, offsets, edge_side)
    assert values.dtype == np.uint8
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_array_equal(mask, expected_mask)


def test_a_view_gives_the_affinities_of_its_copy():
    labels = np.arange(240, dtype=np.int32).reshape(4, 6, 10)[::2, ::-1, 1::3] // 40
    one = affinities(labels, offsets=[(1, -1, 2)], edge_side="source")
    two = affinities(labels.copy(), offsets=[(1, -1, 2)], edge_side="source")
    np.testing.assert_array_equal(one, two)


@settings(max_examples=60)
@given(labels=LABELS, radius=st.tuples(*[st.integers(0, 2)] * 3), at_background=st.booleans())
def test_erosion_is_that_of_the_voxel_loop(labels, radius, at_background):
    before = labels.copy()
    eroded = erode_labels(labels, radius=radius, at_background=at_background)
    np.testing.assert_array_equal(eroded, eroded_by_voxel(labels, radius, at_background))
    np.testing.assert_array_equal(labels, before)


def test_erosion_reaches_the_largest_id():
    labels = np.full((1, 1, 6), 2**31 - 1, np.int32)
    labels[..., 3:] = 2**31 - 2
    eroded = erode_labels(labels, radius=(0, 0, 1))
    assert (eroded[0, 0] == 0).tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize("radius", [(1, 1), (0, -1, 0)])
def test_erosion_needs_one_radius_per_axis(radius):
    with pytest.raises(ValueError, match="radius"):
        erode_labels(np.ones((2, 2, 2), np.int32), radius=radius)


@pytest.mark.parametrize("labels", [np.ones((2, 2, 2)), np.ones((2, 2), np.int32)])
def test_labels_of_another_kind_are_refused(labels):
    with pytest.raises(TypeError, match="int32"):
        affinities(labels, offsets=[(0, 0, 1)], edge_side="source")


@settings(max_examples=60)
@given(shape=SHAPES, offsets=OFFSETS, from_side=SIDES, to_side=SIDES, seed=st.integers(0, 99))
def test_shifting_keeps_every_pair_and_its_value(shape, offsets, from_side, to_side, seed):
    array = np.random.default_rng(seed).random((len(offsets), *shape))
    shifted = shift_edges(array, offsets=offsets, from_side=from_side, to_side=to_side)
    expected = pairs_inside(array, offsets, from_side)
    assert pairs_inside(shifted, offsets, to_side) == expected
    if from_side != to_side:
        assert np.count_nonzero(shifted) == len(expected)


def test_an_unknown_side_is_refused():
    with pytest.raises(ValueError, match="'sorce'.*source.*destination"):
        affinities(np.ones((1, 2, 3), np.int32), offsets=[(0, 0, 1)], edge_side="sorce")
