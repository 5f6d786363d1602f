import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.kernels.symmetry import Symmetry, channel_sources, edge_span, identity, views

ALL_48 = [
    Symmetry(order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
symmetries = st.sampled_from(ALL_48)
steps = st.integers(-3, 3)


def slow_affinity(labels, offset, edge_side):
    """Voxel by voxel: 1 same object, 0 other or background, -1 where the other end is outside."""
    sign = -1 if edge_side == "destination" else 1
    values = np.full(labels.shape, -1)
    for voxel in np.ndindex(labels.shape):
        other = tuple(v + sign * o for v, o in zip(voxel, offset, strict=True))
        if all(0 <= v < n for v, n in zip(other, labels.shape, strict=True)):
            values[voxel] = labels[voxel] > 0 and labels[voxel] == labels[other]
    return values


def moved(array, shift):
    """result[v] = array[v - shift], and -1 where that is outside."""
    result = np.full(array.shape, -1)
    for voxel in np.ndindex(array.shape):
        origin = tuple(v - s for v, s in zip(voxel, shift, strict=True))
        if all(0 <= v < n for v, n in zip(origin, array.shape, strict=True)):
            result[voxel] = array[origin]
    return result


@given(symmetries)
def test_inverse_undoes(symmetry):
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(symmetry.inverse().apply(symmetry.apply(array)), array)
    assert symmetry.inverse().compose(symmetry) == identity(3)


@given(symmetries, symmetries)
def test_compose_acts_as_one_after_the_other(second, first):
    array = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    np.testing.assert_array_equal(
        second.compose(first).apply(array), second.apply(first.apply(array))
    )


@given(symmetries, st.tuples(steps, steps, steps))
def test_vector_follows_the_voxels(symmetry, displacement):
    array = np.arange(9**3).reshape(9, 9, 9)
    seen = symmetry.apply(array)
    start = np.argwhere(seen == array[4, 4, 4])[0]
    end = np.argwhere(seen == array[tuple(4 + d for d in displacement)])[0]
    assert tuple(end - start) == symmetry.vector(displacement)


@pytest.mark.parametrize(
    ("flips", "planes", "count"),
    [
        ((), (), 1),
        ("all", (), 8),
        ((1, 2), (), 4),
        ((1, 2), ((1, 2),), 8),
        ((), ((1, 2),), 4),
        ("all", ((1, 2),), 16),
        ("all", ((0, 1), (1, 2)), 48),
    ],
)
def test_views_are_the_distinct_symmetries(flips, planes, count):
    found = views(flips, planes)
    assert found[0] == identity(3)
    array = np.arange(27).reshape(3, 3, 3)
    assert len({view.apply(array).tobytes() for view in found}) == len(found) == count


def test_views_of_a_square_are_the_flips_and_turns_of_numpy():
    array = np.arange(9).reshape(1, 3, 3)
    expected = {
        np.rot90(np.flip(array, flipped), turns, (1, 2)).tobytes()
        for flipped in ((), (1,), (2,), (1, 2))
        for turns in range(4)
    }
    found = {view.apply(array).tobytes() for view in views((1, 2), ((1, 2),))}
    assert found == expected


@settings(max_examples=60)
@given(
    symmetries,
    st.lists(st.tuples(steps, steps, steps), min_size=1, max_size=2),
    st.sampled_from(["source", "destination"]),
    st.integers(0, 2**32 - 1),
)
def test_affinities_of_a_view_brought_back_are_those_of_the_original(symmetry, seeds, side, seed):
    # The offsets, closed under the symmetry; every second one only up to its sign.
    offsets = []
    for offset in seeds:
        while offset not in offsets and tuple(-o for o in offset) not in offsets:
            offsets.append(offset)
            offset = tuple((-1) ** len(offsets) * o for o in symmetry.vector(offset))
    labels = np.random.default_rng(seed).integers(0, 3, (4, 5, 6))
    seen = symmetry.apply(labels)
    back = [symmetry.inverse().apply(slow_affinity(seen, offset, side)) for offset in offsets]
    sources = channel_sources(symmetry, offsets, edge_side=side)
    for offset, (source, shift) in zip(offsets, sources, strict=True):
        expected = slow_affinity(labels, offset, side)
        result = moved(back[source], shift)
        np.testing.assert_array_equal(result[expected >= 0], expected[expected >= 0])
        # The values that exist are those of edges inside the array, whatever the view.
        spans = [edge_span(n, o, edge_side=side) for n, o in zip(labels.shape, offset, strict=True)]
        inside = np.zeros(labels.shape, bool)
        inside[tuple(spans)] = True
        np.testing.assert_array_equal(inside, expected >= 0)


def test_channels_that_are_no_affinity_stay_where_they_are():
    zero = (0, 0, 0)
    flip = Symmetry((0, 1, 2), (True, False, False))
    assert channel_sources(flip, [zero, (1, 0, 0), zero], edge_side="source") == (
        (0, zero),
        (1, (-1, 0, 0)),
        (2, zero),
    )


def test_a_set_that_is_not_closed_names_the_offset():
    turn = views((), ((1, 2),))[1]
    with pytest.raises(UserError, match=r"\(0, 0, 27\).*not among the offsets"):
        channel_sources(turn, [(0, 1, 0), (0, 0, 1), (0, 0, 27)], edge_side="destination")


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: views((3,), ()), "flip_axes"),
        (lambda: views((-1,), ()), "flip_axes"),
        (lambda: views((), ((1, 1),)), "rotation90_axes"),
        (lambda: views((), ((1, 3),)), "rotation90_axes"),
        (lambda: views((), ((1,),)), "rotation90_axes"),
        (lambda: Symmetry((0, 0, 2), (False, False, False)), "permutation"),
    ],
)
def test_axes_that_are_not_there_or_there_twice_are_refused(made, named):
    with pytest.raises(UserError, match=named):
        made()
