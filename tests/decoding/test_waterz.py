import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waterz._codegen import QUANTILES

from emseg.decoding import sweep_of
from emseg.decoding.waterz import waterz, waterz_sweep
from emseg.errors import UserError
from emseg.kernels.affinity import shift_edges
from reference.components import numbered
from reference.watershed import fragments_by_definition, parts

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}


def noisy(seed, shape=(6, 16, 16)):
    return np.random.default_rng(seed).random((3, *shape)).astype(np.float32)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    low=st.sampled_from([0.0, 0.1, 0.5]),
    high=st.sampled_from([0.7, 0.9, 1.0]),
)
def test_at_threshold_0_the_segments_are_the_watershed_s_fragments(seed, shape, low, high):
    affinities = noisy(seed, shape)
    labels = waterz(affinities, thresholds=0.0, aff_threshold=(low, high), **FACTS)
    low, high = np.float32(low), np.float32(high)
    assert parts(labels) == fragments_by_definition(affinities, low, high)
    np.testing.assert_array_equal(labels, numbered(labels))


@pytest.mark.parametrize("weak, count", [(0.6, 1), (0.4, 2)])
def test_two_blocks_merge_while_their_score_is_below_the_threshold(weak, count):
    affinities = np.full((3, 4, 4, 8), 0.99, np.float32)
    affinities[2, :, :, 4] = weak
    # Above high only inside the blocks, so that they are fragments and the contact decides.
    labels = waterz(
        affinities,
        thresholds=0.5,
        merge_function="mean",
        aff_threshold=(0.1, 0.9),
        **FACTS,
    )
    assert labels.max() == count
    assert labels.dtype == np.uint32


def test_a_sweep_gives_what_single_calls_give():
    affinities = noisy(1)
    sweep = sweep_of(waterz)
    found = list(sweep.function(affinities, **{sweep.argument: [0.9, 0.1, 0.5]}, **FACTS))
    assert [threshold for threshold, _ in found] == [0.1, 0.5, 0.9]
    for threshold, labels in found:
        np.testing.assert_array_equal(labels, waterz(affinities, thresholds=threshold, **FACTS))
    counts = [labels.max() for _, labels in found]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize("merge_function", ["mean", *(f"aff{q}_his256" for q in QUANTILES)])
def test_every_merge_function_is_compiled(merge_function, monkeypatch):
    monkeypatch.setattr("waterz._agglomerate._jit_compile", None)
    labels = waterz(noisy(2, (2, 8, 8)), merge_function=merge_function, **FACTS)
    assert labels.any()


def test_the_percentile_counts():
    affinities = noisy(3)
    low = waterz(affinities, merge_function="aff15_his256", **FACTS)
    high = waterz(affinities, merge_function="aff85_his256", **FACTS)
    assert low.max() > high.max()


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_channels_are_put_in_axis_order(order):
    affinities = noisy(4)
    offsets = [UNITS[axis] for axis in order]
    labels = waterz(affinities[list(order)], offsets=offsets, edge_side="destination")
    np.testing.assert_array_equal(labels, waterz(affinities, **FACTS))


def test_edge_sides_and_signs_give_the_same_labels():
    affinities = noisy(5)
    expected = waterz(affinities, **FACTS)
    source = shift_edges(affinities, offsets=UNITS, from_side="destination", to_side="source")
    np.testing.assert_array_equal(waterz(source, offsets=UNITS, edge_side="source"), expected)
    negative = [[-step for step in unit] for unit in UNITS]
    np.testing.assert_array_equal(
        waterz(affinities, offsets=negative, edge_side="source"), expected
    )
    long = [[9 * step for step in unit] for unit in UNITS]
    np.testing.assert_array_equal(
        waterz(affinities, offsets=long, edge_side="destination"), expected
    )


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_smaller_dtypes_give_what_their_float32_values_give(dtype):
    scale = 255 if dtype == "uint8" else 1
    prediction = (noisy(6) * scale).astype(dtype)
    same = prediction.astype(np.float32) / np.float32(scale)
    np.testing.assert_array_equal(waterz(prediction, **FACTS), waterz(same, **FACTS))


def test_dust_becomes_background():
    affinities = noisy(7)
    labels = waterz(affinities, thresholds=0.2, **FACTS)
    clean = waterz(affinities, thresholds=0.2, dust_remove_size=10, **FACTS)
    assert 0 < clean.max() < labels.max()
    np.testing.assert_array_equal(clean, numbered(labels, 10))


def test_nothing_is_printed_and_the_prediction_is_left_alone(capfd):
    prediction = noisy(8)
    before = prediction.copy()
    for _ in waterz_sweep(prediction, thresholds=[0.2, 0.4], **FACTS):
        print("ours")
    assert capfd.readouterr() == ("ours\nours\n", "")
    np.testing.assert_array_equal(prediction, before)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"merge_function": "aff84_his256"}, r"'aff84_his256' in .*did you mean 'aff85_his256'"),
        ({"thresholds": 1.5}, r"decoding.thresholds is 1.5"),
        ({"aff_threshold": (0.9, 0.1)}, r"decoding.aff_threshold is \[0.9, 0.1\]"),
        ({"aff_threshold": (-0.1, 0.5)}, r"decoding.aff_threshold"),
        ({"aff_threshold": (0.1, 0.5, 0.6)}, r"decoding.aff_threshold"),
        ({"dust_remove_size": -1}, r"decoding.dust_remove_size is -1"),
        ({"offsets": [(1, 0, 0), (0, 1, 0), (0, 1, 1)]}, r"\[0, 1, 1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        waterz(noisy(0, (2, 2, 2)), **(FACTS | arguments))
