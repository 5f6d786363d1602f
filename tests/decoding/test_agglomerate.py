from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.decoding.agglomeration.merging import MergeFunction
from emseg.errors import UserError
from emseg.volumes import from_array
from reference.agglomeration import agglomerated
from reference.section_fragments import fragments_by_section

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}


def noisy(seed, shape=(6, 16, 16)):
    return np.random.default_rng(seed).random((3, *shape), np.float32)


def smooth(seed, shape=(16, 32, 32)):
    noise = np.random.default_rng(seed).standard_normal((3, *shape))
    values = gaussian_filter(noise, (0, 1.2, 1.2, 1.2))
    return (1 / (1 + np.exp(-3 * values / values.std()))).astype(np.float32)


@st.composite
def predictions(draw):
    """(prediction, its facts, the same as float32, channel a at v for the pair (v - e_a, v))."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    values = np.random.default_rng(draw(st.integers(0, 2**32))).random((3, *shape))
    few = draw(st.sampled_from([2, 4, 10, None]))
    if few:
        values = np.round(values * few) / few
    dtype = draw(st.sampled_from(["float32", "float16", "uint8"]))
    stored = np.round(values * 255).astype(dtype) if dtype == "uint8" else values.astype(dtype)
    same = stored.astype(np.float32) / np.float32(255 if dtype == "uint8" else 1)
    order, side = draw(st.permutations(range(3))), draw(st.sampled_from(["source", "destination"]))
    offsets = np.array(UNITS) * draw(st.sampled_from([1, 4]))
    if draw(st.booleans()):
        # The pairs of a negative offset are stored at the other side.
        offsets = -offsets
        forward = side == "destination"
    else:
        forward = side == "source"
    if forward:
        # At v for the pair (v, v + e_a); the last plane's, here the first's, lead out.
        stored = np.stack([np.roll(channel, -1, axis) for axis, channel in enumerate(stored)])
    facts = {"offsets": offsets[order].tolist(), "edge_side": side}
    return stored[order], facts, same


FUNCTIONS = ["mean", "aff15_his256", "aff50_his256", "aff85_his256", "hist_quant_25"]


@settings(deadline=None, max_examples=90)
@given(
    predictions(),
    st.sampled_from(FUNCTIONS),
    st.sampled_from([(0.0, 1.0), (0.1, 0.999), (0.3, 0.7)]),
    st.sampled_from([0, 256]),
    st.sampled_from([(0, 0.3, 0), (4, 0.3, 0), (8, 0.0, 3), (0, 0.3, 4), (30, 0.6, 2)]),
    st.integers(1, 3),
    st.sampled_from(["volume", "sections"]),
)
def test_labels_are_those_of_the_reference(
    predicted, merge_function, aff_threshold, queue, dust, threads, fragments
):
    prediction, facts, same = predicted
    dust = dict(
        zip(["dust_merge_size", "dust_merge_affinity", "dust_remove_size"], dust, strict=True)
    )
    thresholds = [0.0, 0.3, 0.5, 0.8, 1.0]
    before = prediction.copy()
    decoder = Agglomerate(
        merge_function=merge_function,
        fragments=fragments,
        aff_threshold=aff_threshold,
        discretize_queue=queue,
        threads=threads,
        **dust,
    )
    found = decoder.sweep(prediction, thresholds, **facts)
    by_section = fragments_by_section(same) if fragments == "sections" else None
    low, high = map(np.float32, aff_threshold)
    for threshold, (at, labels) in zip(thresholds, found, strict=True):
        expected = agglomerated(
            same,
            threshold,
            merge_function,
            low,
            high,
            levels=queue == 256,
            fragments=by_section,
            **dust,
        )
        assert at == threshold
        assert labels.dtype == np.uint32
        np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(prediction, before)


@pytest.mark.parametrize("merge_function", ["mean", "aff85_his256", "hist_quant_50"])
def test_threads_and_volumes_change_nothing(merge_function):
    prediction = smooth(0)
    arguments = {"merge_function": merge_function, "dust_merge_size": 50, **FACTS}
    one = agglomerate(prediction, threads=1, **arguments)
    assert one.max() > 20
    for threads in (2, 3, 40, None):
        np.testing.assert_array_equal(agglomerate(prediction, threads=threads, **arguments), one)
    volume = from_array(prediction, axes="czyx")
    np.testing.assert_array_equal(agglomerate(volume, threads=2, **arguments), one)


def test_dust_of_waterz_is_dust_of_ours():
    # On fragments that are the same, and merges that are.
    arguments = {"merge_function": "mean", "dust_merge_size": 60, "dust_remove_size": 20, **FACTS}
    prediction = smooth(1)
    ours = agglomerate(prediction, **arguments)
    np.testing.assert_array_equal(agglomerate(prediction, backend="waterz", **arguments), ours)


@pytest.mark.parametrize("merge_function", get_args(MergeFunction))
def test_every_merge_function_merges(merge_function):
    prediction = noisy(2, (2, 8, 8))
    labels = agglomerate(prediction, merge_function=merge_function, thresholds=0.6, **FACTS)
    expected = agglomerated(prediction, 0.6, merge_function, np.float32(0.1), np.float32(0.999))
    np.testing.assert_array_equal(labels, expected)


def test_all_merge_functions_of_waterz_are_there():
    quantiles = range(10, 100, 5)
    names = {f"aff{q}_his256" for q in quantiles} | {f"hist_quant_{q}" for q in quantiles}
    assert set(get_args(MergeFunction)) == names | {"mean"}


def test_more_edges_than_the_memory_holds():
    words = (
        r"(\d+) fragments with (\d+) edges.* GiB, decoding.memory_limit is 0\.0001.*"
        r"decoding.aff_threshold \[0\.1, 0\.999\].*smooth the prediction.*raise the limit"
    )
    for threads in (1, 3):
        with pytest.raises(UserError, match=words):
            agglomerate(noisy(0, (12, 32, 32)), memory_limit=1e-4, threads=threads, **FACTS)
    # 488 edges have room.
    small = noisy(0, (4, 8, 8))
    found = agglomerate(small, memory_limit=1e-4, **FACTS)
    np.testing.assert_array_equal(found, agglomerate(small, **FACTS))


def test_labels_that_are_kept_stay_what_they_are():
    # Arrays of labels are used again, but those that somebody holds.
    prediction = np.random.default_rng(3).random((3, 8, 24, 24), np.float32)
    held, copies = [], []
    decoder = Agglomerate(merge_function="mean")
    for number, (_, labels) in enumerate(
        decoder.sweep(prediction, [0.1 * step for step in range(1, 10)], **FACTS)
    ):
        if number % 3 == 0:
            held.append(labels[2:])  # a view is enough
            copies.append(labels[2:].copy())
    for one, other in zip(held, copies, strict=True):
        np.testing.assert_array_equal(one, other)
