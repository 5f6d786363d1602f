import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.kernels.distant_pairs import distant_edges
from emseg.kernels.region_edges import SUM_UNIT
from kernels.drawn_affinities import LEVELS, keys_of, values_of
from reference.multicut import distant_contacts

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
STEPS = st.tuples(*[st.integers(-4, 4)] * 3).filter(any)


@settings(max_examples=150)
@given(data=st.data(), shape=SHAPES, partner=STEPS, dtype=st.sampled_from(sorted(LEVELS)))
def test_links_are_those_of_all_pairs_one_by_one(data, shape, partner, dtype):
    labels = data.draw(arrays(np.uint32, shape, elements=st.integers(0, 5)))
    seed = data.draw(st.integers(0, 99))
    values = keys_of(np.random.default_rng(seed).random(shape), dtype)
    found = distant_edges(labels, values, LEVELS[dtype], partner)
    expected = distant_contacts(labels, values_of(values, dtype), partner)
    assert {(edge["u"], edge["v"]) for edge in found} == set(expected)
    for edge in found:
        own = expected[edge["u"], edge["v"]]
        assert edge["count"] == len(own) and edge["max"] == np.float32(max(own))
        assert abs(edge["sum"] / SUM_UNIT - sum(own)) <= len(own) / SUM_UNIT


def test_more_links_than_there_was_room_for():
    labels = np.arange(1, 3 * 40 * 50 + 1, dtype=np.uint32).reshape(3, 40, 50)
    values = np.random.default_rng(0).random(labels.shape, np.float32)
    found = distant_edges(labels, values, None, (1, -2, 3))
    assert len(found) == 2 * 38 * 47
    assert (found["count"] == 1).all()
    u, v = np.sort(np.stack([labels[:-1, 2:, :-3], labels[1:, :-2, 3:]]).reshape(2, -1), axis=0)
    np.testing.assert_array_equal(found["u"], u)
    np.testing.assert_array_equal(found["v"], v)
    np.testing.assert_array_equal(found["max"], values[:-1, 2:, :-3].ravel())
