"""Segments united across sections, of random volumes, against the definition."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.blocks.store import MemoryStore
from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.decoding.agglomeration.branches import merge_branches
from emseg.decoding.agglomeration.supervoxels import given_supervoxels
from emseg.decoding.edges import axis_edges
from emseg.kernels.affinity import shift_edges
from emseg.volumes import from_array
from reference.agglomeration import agglomerated
from reference.branch_merge import branch_merged
from reference.components import numbered

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}
OFF = {
    "iou_threshold": None,
    "singleton_size_ratio": 0.0,
    "best_buddy": False,
    "one_sided_threshold": None,
    "one_sided_min_size": 0,
    "branch_affinity": 0.0,
}
SHARES = [0.05, 0.2, 1 / 3, 0.5, 2 / 3, 1.0]


@st.composite
def branch_rules(draw):
    """Settings with a stage at least."""
    rules = dict(OFF)
    stages = draw(st.sets(st.sampled_from(["iou", "buddy", "one-sided"]), min_size=1))
    if "iou" in stages:
        rules["iou_threshold"] = draw(st.sampled_from(SHARES))
        rules["singleton_size_ratio"] = draw(st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0]))
    rules["best_buddy"] = "buddy" in stages
    if "one-sided" in stages:
        rules["one_sided_threshold"] = draw(st.sampled_from(SHARES))
        rules["one_sided_min_size"] = draw(st.sampled_from([0, 2, 4]))
    rules["branch_affinity"] = draw(st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.7]))
    return rules


def roots_of(fragments, segments):
    """Of each fragment the smallest one in its segment."""
    roots = np.zeros(fragments.max() + 1, np.int32)
    for segment in np.unique(segments[segments > 0]):
        own = np.unique(fragments[segments == segment])
        roots[own] = own.min()
    return roots


def in_order(labels):
    return numbered(labels).astype(np.uint32)


@st.composite
def labelled(draw):
    """(fragments, segments of them) with ends, beginnings and gaps, of any shape."""
    shape = draw(st.tuples(st.integers(2, 6), st.integers(1, 5), st.integers(1, 6)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kinds = draw(st.integers(1, 12))
    fragments = rng.integers(0, kinds + 1, shape)
    if draw(st.booleans()):
        # Larger pieces, which overlap in several pixels.
        fragments = fragments.repeat(2, 1).repeat(3, 2)
    fragments = in_order(fragments)
    names = rng.integers(1, draw(st.integers(1, 12)) + 1, fragments.max() + 1)
    names[0] = 0
    return fragments, in_order(names[fragments])


@settings(deadline=None, max_examples=150)
@given(labelled(), branch_rules(), st.integers(0, 2**32), st.booleans())
def test_tables_of_fragments_say_what_labels_say(drawn, rules, seed, few):
    fragments, segments = drawn
    affinities = np.random.default_rng(seed).random((3, *fragments.shape), np.float32)
    if few:
        affinities = np.round(affinities * 4) / 4
    found = given_supervoxels(
        fragments,
        affinities,
        edges=axis_edges(UNITS, "destination"),
        histograms=False,
        sections=True,
    )
    roots = merge_branches(
        found.graph.sections, roots_of(fragments, segments), SimpleNamespace(**rules)
    )
    expected = branch_merged(segments, affinities[0], **rules)
    np.testing.assert_array_equal(numbered(roots[fragments]), numbered(expected))
    # Each is the smallest fragment, which the numbering of segments relies on.
    np.testing.assert_array_equal(roots, roots_of(fragments, expected))


@st.composite
def predictions(draw):
    """(prediction, its facts, the same as float32 affinities, channel a at v for (v - e_a, v))."""
    shape = draw(st.tuples(st.integers(2, 6), st.integers(1, 6), st.integers(1, 6)))
    values = np.random.default_rng(draw(st.integers(0, 2**32))).random((3, *shape))
    # Weak along axis 0, so that segments end, which is what this is about.
    values[0] *= draw(st.sampled_from([0.5, 0.8, 1]))
    dtype = draw(st.sampled_from(["float32", "float16", "uint8"]))
    stored = np.round(values * 255).astype(dtype) if dtype == "uint8" else values.astype(dtype)
    same = stored.astype(np.float32) / np.float32(255 if dtype == "uint8" else 1)
    side = draw(st.sampled_from(["source", "destination"]))
    order = draw(st.permutations(range(3)))
    offsets = (np.array(UNITS) * draw(st.sampled_from([1, 3])))[order].tolist()
    if side == "source":
        stored = shift_edges(stored, offsets=UNITS, from_side="destination", to_side="source")
    return stored[order], {"offsets": offsets, "edge_side": side}, same


AGGLOMERATION = st.fixed_dictionaries(
    {
        "merge_function": st.sampled_from(["mean", "aff85_his256", "hist_quant_50"]),
        "aff_threshold": st.sampled_from([(0.1, 0.999), (0.4, 0.8), (0.5, 0.95)]),
        "dust_merge_size": st.sampled_from([0, 4]),
        "dust_remove_size": st.sampled_from([0, 5]),
    }
)


@settings(deadline=None, max_examples=60)
@given(predictions(), AGGLOMERATION, branch_rules(), st.integers(1, 3))
def test_all_of_it_is_the_reference(predicted, arguments, rules, threads):
    prediction, facts, same = predicted
    thresholds = [0.0, 0.3, 0.6]
    decoder = Agglomerate(threads=threads, **arguments, **rules)
    found = decoder.sweep(prediction, thresholds, **facts)
    low, high = map(np.float32, arguments["aff_threshold"])
    for threshold, (at, labels) in zip(thresholds, found, strict=True):
        raw = agglomerated(
            same,
            threshold,
            arguments["merge_function"],
            low,
            high,
            dust_merge_size=arguments["dust_merge_size"],
        )
        expected = numbered(branch_merged(raw, same[0], **rules), arguments["dust_remove_size"])
        assert at == threshold
        np.testing.assert_array_equal(labels, expected)
    single = agglomerate(prediction, thresholds=0.6, threads=1, **arguments, **rules, **facts)
    np.testing.assert_array_equal(single, labels)


@settings(deadline=None, max_examples=60)
@given(predictions(), AGGLOMERATION, branch_rules(), st.tuples(*[st.integers(1, 7)] * 3), st.data())
def test_blocks_are_the_whole(predicted, arguments, rules, block_shape, data):
    prediction, facts, _ = predicted
    arguments |= rules | {"thresholds": data.draw(st.sampled_from([0.0, 0.4]))}
    whole = agglomerate(prediction, threads=1, **arguments, **facts)
    found = Agglomerate(threads=data.draw(st.integers(1, 3)), **arguments).blocks(
        from_array(prediction, axes="czyx"),
        store=MemoryStore(whole.shape),
        block_shape=block_shape,
        **facts,
    )
    labels = np.full(whole.shape, -1, np.int64)
    for block, part in found:
        labels[block.slices] = part
    np.testing.assert_array_equal(labels, whole)


@pytest.mark.parametrize(
    "rules", [{"iou_threshold": 0.2}, {"best_buddy": True, "branch_affinity": 0.4}]
)
def test_segments_of_waterz_are_united_too(rules):
    prediction = np.random.default_rng(0).random((3, 6, 12, 12), np.float32)
    arguments = {"merge_function": "mean", "thresholds": 0.4, "backend": "waterz", **FACTS}
    for dust in (0, 10):
        raw = agglomerate(prediction, dust_merge_size=dust, **arguments)
        united = branch_merged(raw, prediction[0], **rules)
        assert 1 < len(np.unique(united)) < raw.max()
        expected = numbered(united, 8)
        found = agglomerate(
            prediction, dust_merge_size=dust, dust_remove_size=8, **rules, **arguments
        )
        np.testing.assert_array_equal(found, expected)
