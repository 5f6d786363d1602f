import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.kernels.watershed import flood
from kernels.drawn_affinities import TOPS, Drawn, boxes, drawn_affinities, keys_of
from reference.watershed import fragment_labels, joined_pairs


def flooded(drawn, start=(0, 0, 0), stop=None):
    """(labels, joined planes, count, first, sizes, legal) of a box of the volume."""
    stop = drawn.shape if stop is None else stop
    lead = tuple(int(a > 0) for a in start)
    behind = tuple(int(b < n) for b, n in zip(stop, drawn.shape, strict=True))
    size = tuple(b - a for a, b in zip(start, stop, strict=True))
    region = [a - before for a, before in zip(start, lead, strict=True)]
    labels = np.full(size, 77, np.uint32)
    joined = [np.zeros([n for a, n in enumerate(size) if a != axis], np.uint8) for axis in range(3)]
    found = flood(
        drawn.stored,
        drawn.at(region),
        tuple(int(a == 0) for a in region),
        tuple(sum(sizes) for sizes in zip(lead, size, behind, strict=True)),
        lead,
        drawn.low,
        drawn.high,
        TOPS[drawn.dtype],
        labels,
        joined,
    )
    return labels, joined, *found


def check_numbers(labels, count, first, sizes):
    assert count == labels.max()
    np.testing.assert_array_equal(sizes, np.bincount(labels.ravel(), minlength=count + 1))
    places = [np.flatnonzero(labels == label)[0] for label in range(1, count + 1)]
    np.testing.assert_array_equal(first[1:], places)


@settings(deadline=None, max_examples=150)
@given(drawn_affinities())
def test_fragments_are_those_of_the_definition(drawn):
    labels, joined, count, first, sizes, legal = flooded(drawn)
    pairs = joined_pairs(drawn.affinities, *drawn.limits)
    np.testing.assert_array_equal(labels, fragment_labels(drawn.shape, *pairs))
    check_numbers(labels, count, first, sizes)
    assert legal
    assert not any(plane.any() for plane in joined)


@settings(deadline=None, max_examples=150)
@given(st.data(), drawn_affinities())
def test_a_block_joins_what_the_whole_volume_joins(data, drawn):
    start, stop = data.draw(boxes(drawn.shape))
    labels, joined, count, first, sizes, legal = flooded(drawn, start, stop)
    foreground, pairs = joined_pairs(drawn.affinities, *drawn.limits)

    def inside(voxel):
        return all(a <= at < b for at, a, b in zip(voxel, start, stop, strict=True))

    def within(voxel):
        return tuple(at - a for at, a in zip(voxel, start, strict=True))

    own = {within(voxel) for voxel in foreground if inside(voxel)}
    inner = [tuple(map(within, pair)) for pair in pairs if all(map(inside, pair))]
    np.testing.assert_array_equal(labels, fragment_labels(labels.shape, own, inner))
    check_numbers(labels, count, first, sizes)
    assert legal
    expected = [np.zeros(plane.shape, np.uint8) for plane in joined]
    for before, after in pairs:
        if inside(after) and not inside(before):
            axis = next(axis for axis in range(3) if before[axis] != after[axis])
            expected[axis][tuple(np.delete(within(after), axis))] = 1
    for plane, planned in zip(joined, expected, strict=True):
        np.testing.assert_array_equal(plane, planned)


@settings(deadline=None, max_examples=150)
@given(st.data(), drawn_affinities(illegal=True))
def test_blocks_tell_whether_all_values_are_legal(data, drawn):
    start, stop = data.draw(boxes(drawn.shape))
    legal = (drawn.keys >= 0) & (drawn.keys <= TOPS[drawn.dtype])
    for axis in range(3):
        # Pairs that lead out of the volume are no one's.
        legal[(axis, *(slice(None),) * axis, 0)] = True
    box = (slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))
    found = flooded(drawn, start, stop)[-1]
    assert flooded(drawn)[-1] == legal.all()
    if legal.all():
        assert found
    if not legal[box].all():
        assert not found


def test_a_snake_of_many_labels_is_one_fragment():
    # Rows that begin with labels of their own and are united at their ends, by turns.
    rows, width = 30, 61
    values = np.zeros((3, 1, rows, width))
    values[1, 0, 1:, ::2] = 1
    values[2, 0, 1::2, 1:] = np.arange(width - 1) % 2
    values[2, 0, -1, 1:] = 1
    drawn = Drawn("float32", False, keys_of(values, "float32"), np.float32(0.5), np.float32(0.9))
    labels, _, count, first, sizes, _ = flooded(drawn)
    pairs = joined_pairs(drawn.affinities, *drawn.limits)
    np.testing.assert_array_equal(labels, fragment_labels(drawn.shape, *pairs))
    check_numbers(labels, count, first, sizes)


def test_labels_beyond_the_first_room_for_them():
    # No two voxels of a checkerboard's pairs touch: 2^16 and more labels before any is united.
    shape = (3, 300, 400)
    values = np.zeros((3, *shape))
    values[2, :, :, 1::2] = 0.5
    values[0, 2] = 0.5
    drawn = Drawn("float32", False, keys_of(values, "float32"), np.float32(0.1), np.float32(0.9))
    labels, _, count, first, sizes, _ = flooded(drawn)
    pairs = np.arange(300 * 200).reshape(300, 200).repeat(2, 1) + 1
    np.testing.assert_array_equal(labels, np.stack([pairs, pairs + 300 * 200, pairs + 300 * 200]))
    np.testing.assert_array_equal(sizes[1:], np.repeat([2, 4], 300 * 200))
    np.testing.assert_array_equal(first[1:], np.arange(0, 2 * 300 * 400, 2))
    assert count == 2 * 300 * 200
