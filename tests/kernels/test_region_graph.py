from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.kernels.region_edges import EDGE, SUM_UNIT, find_edges
from kernels.drawn_affinities import LEVELS, Drawn, boxes, drawn_affinities, keys_of
from reference.agglomeration import UNIT, bin_of, region_graph, whole

MANY = 10**9


def found_edges(drawn, labels, *, start=(0, 0, 0), axes=3, limit=MANY, with_bins=True):
    """(edges, contacts) of labels that begin at `start` in the volume."""
    return find_edges(
        labels,
        drawn.stored,
        drawn.at(start),
        axes,
        LEVELS[drawn.dtype],
        int(labels.max()),
        limit,
        with_bins,
    )


def edges_expected(graph):
    """As rows of EDGE, sorted."""
    return sorted(
        (u, v, max(own), len(own), sum(whole(affinity) for affinity in own))
        for (u, v), own in graph.items()
    )


def bins_of(edges, contacts):
    """How many contacts there are per (u, v, bin)."""
    pairs = edges[["u", "v"]].tolist()
    return Counter((*pairs[contact >> 8], contact & 255) for contact in contacts.tolist())


def bins_expected(graph):
    return Counter((*pair, bin_of(affinity)) for pair, own in graph.items() for affinity in own)


@st.composite
def labelled(draw):
    """(drawn, labels of a box of it, where the box begins)."""
    drawn = draw(drawn_affinities())
    start, stop = draw(boxes(drawn.shape))
    size = tuple(b - a for a, b in zip(start, stop, strict=True))
    # A label of its own for nearly each voxel, or few large ones; they need not hang together.
    highest = draw(st.sampled_from([1, 2, 4, 60]))
    return drawn, draw(arrays(np.uint32, size, elements=st.integers(0, highest))), start


def box_of(affinities, start, shape):
    return affinities[(slice(None), *(slice(a, a + n) for a, n in zip(start, shape, strict=True)))]


@settings(deadline=None, max_examples=200)
@given(labelled(), st.sampled_from([1, 2, 3]))
def test_edges_are_those_of_the_voxel_loop(volume, axes):
    drawn, labels, start = volume
    edges, contacts = found_edges(drawn, labels, start=start, axes=axes)
    graph = region_graph(box_of(drawn.affinities, start, labels.shape), labels, range(axes))
    assert SUM_UNIT == UNIT
    assert edges.dtype == EDGE
    assert sorted(edges.tolist()) == edges_expected(graph)
    assert bins_of(edges, contacts) == bins_expected(graph)
    without = found_edges(drawn, labels, start=start, axes=axes, with_bins=False)
    np.testing.assert_array_equal(without[0], edges)
    assert len(without[1]) == 0


@settings(deadline=None, max_examples=100)
@given(labelled(), st.integers(0, 20))
def test_too_many_edges_are_one_more_than_the_limit(volume, limit):
    drawn, labels, start = volume
    every = found_edges(drawn, labels, start=start)[0]
    edges = found_edges(drawn, labels, start=start, limit=limit)[0]
    if len(every) <= limit:
        np.testing.assert_array_equal(edges, every)
    else:
        assert len(edges) == limit + 1
        np.testing.assert_array_equal(edges[["u", "v"]], every[: limit + 1][["u", "v"]])


def hub(order, leaves=1500):
    """A label that touches `leaves` others, twice each; numbered first, last or in between."""
    labels = np.empty((3, 1, leaves), np.uint32)
    labels[1] = {"first": 1, "last": leaves + 1, "between": leaves // 2}[order]
    others = np.delete(np.arange(1, leaves + 2), labels[1, 0, 0] - 1)
    labels[0], labels[2] = others, others[::-1]
    return labels


def test_regions_of_many_neighbours():
    rng = np.random.default_rng(0)
    for order in ("first", "last", "between"):
        labels = hub(order)
        values = keys_of(rng.random((3, *labels.shape)), "float32")
        drawn = Drawn("float32", False, values, np.float32(0), np.float32(1))
        edges, contacts = found_edges(drawn, labels)
        graph = region_graph(values, labels)
        assert sorted(edges.tolist()) == edges_expected(graph)
        assert bins_of(edges, contacts) == bins_expected(graph)


def test_more_edges_than_there_was_room_for_at_first():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 61, (14, 13, 12)).astype(np.uint32)
    values = keys_of(rng.random((3, *labels.shape)), "float32")
    drawn = Drawn("float32", False, values, np.float32(0), np.float32(1))
    edges, contacts = found_edges(drawn, labels)
    graph = region_graph(values, labels)
    assert len(edges) > 1000
    assert sorted(edges.tolist()) == edges_expected(graph)
    assert bins_of(edges, contacts) == bins_expected(graph)
    np.testing.assert_array_equal(found_edges(drawn, labels, with_bins=False)[0], edges)


def test_sums_are_exact_for_large_contacts():
    shape = (2, 1000, 1000)
    labels = np.ones(shape, np.uint32)
    labels[1] = 2
    for value in (np.float32(1), np.float32(1 / 3), np.float32(1e-9)):
        values = np.full((3, *shape), value)
        drawn = Drawn("float32", False, values, np.float32(0), np.float32(1))
        edges, _ = found_edges(drawn, labels, with_bins=False)
        assert edges.tolist() == [(1, 2, value, 10**6, 10**6 * whole(float(value)))]
