import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.kernels.components import _rank, _unite, edge_components, renumber
from reference.components import flood_components, numbered

# Rows longer than the eight voxels that are looked at together, too.
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 19))
# Of few voxels without an edge up to few with fewer than three.
FLAGS = st.tuples(SHAPES, st.integers(0, 2**32), st.floats(0.2, 0.98)).map(
    lambda drawn: (
        (np.random.default_rng(drawn[1]).random((3, *drawn[0])) < drawn[2])
        * np.array([1, 2, 4], np.uint8)[:, None, None, None]
    ).sum(axis=0, dtype=np.uint8)
)
UNITS = np.eye(3, dtype=int)


@settings(max_examples=100)
@given(flags=FLAGS, forward=st.tuples(*[st.booleans()] * 3), threads=st.integers(1, 4))
def test_components_are_those_of_flooding(flags, forward, threads):
    labels = edge_components(flags, forward=forward, threads=threads)
    edges = np.stack([flags & 1, flags & 2, flags & 4])
    offsets = [unit if ahead else -unit for unit, ahead in zip(UNITS, forward, strict=True)]
    assert labels.dtype == np.uint32
    np.testing.assert_array_equal(labels, flood_components(edges, 0.5, offsets, "source"))


def test_wide_parents_give_the_same_labels():
    flags = np.random.default_rng(0).integers(0, 8, (6, 7, 8)).astype(np.uint8)
    wide = np.zeros(flags.size, np.uint64)
    _unite(flags, (True, False, True), wide, 0, len(flags))
    _rank(wide)
    narrow = edge_components(flags, forward=(True, False, True))
    np.testing.assert_array_equal(wide.reshape(flags.shape), narrow)


def test_a_long_staircase_is_one_component():
    side = 1024
    flags = np.zeros((1, side, side), np.uint8)
    steps = np.arange(side - 1)
    flags[0, steps, steps] |= 4
    flags[0, steps, steps + 1] |= 2
    for turned in (flags, flags[:, ::-1]):
        forward = (True, turned is flags, True)
        labels = edge_components(turned, forward=forward)
        assert labels.max() == 1
        assert np.count_nonzero(labels) == 2 * side - 1


@settings(max_examples=60)
@given(
    labels=SHAPES.flatmap(lambda s: arrays.arrays(np.uint64, s, elements=st.integers(0, 9))),
    min_size=st.integers(0, 5),
)
def test_numbers_follow_the_first_voxel(labels, min_size):
    before = labels.copy()
    dense = renumber(labels, min_size=min_size)
    assert dense.dtype == np.uint32
    np.testing.assert_array_equal(dense, numbered(labels, min_size))
    np.testing.assert_array_equal(labels, before)
