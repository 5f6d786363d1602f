"""What holds of every decoder: its forms agree, and what it refuses is named."""

import inspect
import math
import pickle
from functools import partial

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from emseg.config import build
from emseg.decoding.affinity_cc import AffinityCC, affinity_cc
from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.decoding.binary import Binary, binary
from emseg.decoding.decoder import decoder_of
from emseg.decoding.lifted_multicut import LiftedMulticut, lifted_multicut
from emseg.decoding.multicut import Multicut, multicut
from emseg.decoding.mutex_watershed import MutexWatershed, mutex_watershed
from emseg.decoding.polarity import Polarity, polarity
from emseg.errors import UserError
from emseg.kernels.affinity import shift_edges

OFFSETS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, -6, 0), (0, 3, 5)]
# Of each decoder the number of channels.
CHANNELS = {
    affinity_cc: 3,
    agglomerate: 3,
    binary: 1,
    lifted_multicut: 6,
    multicut: 3,
    mutex_watershed: 6,
    polarity: 2,
}
CLASSES = {
    affinity_cc: AffinityCC,
    agglomerate: Agglomerate,
    binary: Binary,
    lifted_multicut: LiftedMulticut,
    multicut: Multicut,
    mutex_watershed: MutexWatershed,
    polarity: Polarity,
}
SWEEPS = [
    (affinity_cc, {}),
    (agglomerate, {}),
    (agglomerate, {"backend": "waterz"}),
    (agglomerate, {"fragments": "sections", "merge_function": "mean"}),
    (binary, {}),
    (multicut, {"min_fragment_size": 10}),
    (lifted_multicut, {"min_fragment_size": 10, "lifted_weight": 2.0}),
]
SHARED = [
    (agglomerate, {}, {"merge_function": "mean", "dust_remove_size": 5}),
    (agglomerate, {"best_buddy": True}, {"best_buddy": True, "branch_affinity": 0.5}),
    (agglomerate, {"fragments": "sections"}, {"fragments": "sections", "dust_merge_size": 9}),
    (multicut, {}, {"solver": "greedy_additive"}),
    (lifted_multicut, {}, {"lifted_weight": 3.0}),
]
by_name = pytest.mark.parametrize("decoder", CHANNELS, ids=lambda decoder: decoder.__name__)


def smooth(channels, shape=(4, 20, 24)):
    noise = np.random.default_rng(0).standard_normal((channels, *shape))
    values = gaussian_filter(noise, (0, 0.5, 1, 1))
    return (1 / (1 + np.exp(-3 * values / values.std()))).astype(np.float32)


def facts_of(decoder):
    known = {
        "offsets": OFFSETS[: CHANNELS[decoder]],
        "edge_side": "destination",
        "voxel_size": (30, 8, 8),
    }
    return {key: known[key] for key in known if key in inspect.signature(decoder).parameters}


@by_name
def test_a_function_says_all_that_its_class_takes(decoder):
    made_by = CLASSES[decoder]
    parameters = inspect.signature(decoder).parameters
    settings = inspect.signature(made_by).parameters
    assert [*parameters] == ["prediction", *settings, *facts_of(decoder)]
    assert {name: parameters[name] for name in settings} == dict(settings)
    assert decoder.__doc__ == made_by.__doc__
    assert pickle.loads(pickle.dumps(decoder)) is decoder
    built = decoder_of(partial(decoder, **{name: settings[name].default for name in settings}))
    assert built == made_by()
    prediction, facts = smooth(CHANNELS[decoder]), facts_of(decoder)
    np.testing.assert_array_equal(built(prediction, **facts), decoder(prediction, **facts))
    with pytest.raises(TypeError, match="treshold"):
        decoder(prediction, treshold=1, **facts)


def test_another_function_is_a_decoder_as_it_is():
    choice = partial(np.add, 1)
    assert decoder_of(choice) is choice and decoder_of(np.add) is np.add


@pytest.mark.parametrize(("decoder", "settings"), SWEEPS)
def test_a_sweep_gives_what_single_calls_give(decoder, settings):
    prediction, facts = smooth(CHANNELS[decoder]), facts_of(decoder)
    made = CLASSES[decoder](**settings)
    found = []
    for value, labels in made.sweep(prediction, [0.6, 0.3, 0.45, 0.3], **facts):
        found.append((value, labels.copy()))
        labels[...] = 0  # they are the caller's own
    assert [value for value, _ in found] == [0.3, 0.45, 0.6]
    for value, labels in found:
        single = decoder(prediction, **settings, **{made.swept: value}, **facts)
        np.testing.assert_array_equal(labels, single)
    assert len({labels.tobytes() for _, labels in found}) == 3
    with pytest.raises(UserError, match=f"{made.swept} is empty"):
        next(made.sweep(prediction, [], **facts))
    with pytest.raises(UserError, match=f"{made.swept}=1.5 must be"):
        next(made.sweep(prediction, [0.5, 1.5], **facts))


@pytest.mark.parametrize(("decoder", "one", "other"), SHARED)
def test_settings_that_share_fragments_get_the_same_labels(decoder, one, other):
    prediction, facts = smooth(CHANNELS[decoder]), facts_of(decoder)
    first, second = (CLASSES[decoder](**settings) for settings in (one, other))
    assert first.fragments_key() == second.fragments_key()
    labels, graph = first.make_fragments(prediction, **facts)
    assert graph.nbytes > 0
    for value, table in second.tables(graph, [0.7, 0.4]):
        wanted = decoder(prediction, **other, **{second.swept: value}, **facts)
        np.testing.assert_array_equal(table[labels], wanted)


def test_other_fragments_are_not_shared():
    settings = [
        {},
        {"aff_threshold": (0.2, 0.999)},
        {"fragments": "sections"},
        {"merge_function": "hist_quant_50"},
        {"iou_threshold": 0.5},
    ]
    keys = [Agglomerate(**one).fragments_key() for one in settings]
    keys += [Multicut().fragments_key(), LiftedMulticut().fragments_key()]
    keys += [Multicut(seed_sigma=1.0).fragments_key()]
    assert len({repr(key) for key in keys}) == len(keys)
    # Fragments of sections have no threshold.
    other = Agglomerate(fragments="sections", aff_threshold=(0.2, 0.9))
    assert other.fragments_key() == keys[2]
    assert Agglomerate(backend="waterz").fragments_key() is None


@pytest.mark.parametrize(
    ("decoder", "settings"),
    [
        *((decoder, {}) for decoder in (affinity_cc, multicut, lifted_multicut, mutex_watershed)),
        *(one for one in SWEEPS if one[0] is agglomerate),
        (agglomerate, {"merge_function": "hist_quant_50", "dust_merge_size": 20}),
    ],
)
def test_edge_sides_signs_and_dtypes_make_no_difference(decoder, settings):
    offsets = OFFSETS[: CHANNELS[decoder]]

    def moved(values, start, end):
        return shift_edges(values, offsets=offsets, from_side=start, to_side=end)

    def decoded(values, offsets=offsets, edge_side="destination"):
        return decoder(values, **settings, offsets=offsets, edge_side=edge_side)

    steps = np.rint(255 * smooth(len(offsets))).astype(np.uint8)
    at_source = moved(steps, "destination", "source")
    steps = moved(at_source, "source", "destination")  # pairs that lead out are 0
    wanted = decoded(steps)
    assert 1 < wanted.max() < wanted.size / 3
    np.testing.assert_array_equal(decoded(at_source, edge_side="source"), wanted)
    signs = [tuple(-step for step in offset) for offset in offsets]
    np.testing.assert_array_equal(decoded(steps, signs, "source"), wanted)
    floats = steps.astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(decoded(floats), wanted)
    halves = np.where(steps < 60, np.float16(-0.0), floats.astype(np.float16))
    wanted = decoded(np.abs(halves.astype(np.float32)))
    for same in (halves, np.abs(halves), halves.astype(np.float32)):
        np.testing.assert_array_equal(decoded(same), wanted)


NAN, INF = math.nan, math.inf
OUT_OF_RANGE = {
    affinity_cc: [("threshold", -0.1), ("threshold", 1.1), ("threshold", NAN), ("backend", "tor")],
    agglomerate: [
        *[("thresholds", value) for value in (1.5, -0.1, NAN)],
        *[("aff_threshold", ends) for ends in ((0.9, 0.1), (0.5, 0.5), (-0.1, 0.5), (0.1, 1.5))],
        *[("aff_threshold", ends) for ends in ((0.1, 0.5, 0.6), (NAN, 0.6))],
        # Equal as float32.
        *[("aff_threshold", ends) for ends in ((0.5, 0.5 + 1e-9), (1 - 1e-9, 1.0))],
        *[("discretize_queue", 128), ("dust_merge_size", -1), ("dust_remove_size", -1)],
        *[("dust_merge_affinity", 30), ("memory_limit", 0), ("threads", 0), ("time_limit", -5)],
        *[("fragments", "section"), ("backend", "water"), ("merge_function", "median")],
        *[("iou_threshold", value) for value in (0.0, 1.1, NAN)],
        *[("one_sided_threshold", -0.5), ("one_sided_threshold", 50), ("one_sided_min_size", -1)],
        *[("singleton_size_ratio", 2.0), ("branch_affinity", NAN)],
    ],
    binary: [("threshold", 1.5)],
    lifted_multicut: [("lifted_weight", -1.0), ("lifted_weight", INF)],
    multicut: [
        *[("beta", 0.0), ("beta", 1.0), ("beta", NAN), ("solver", "kernigan_lin")],
        *[("boundary_threshold", 1.5), ("boundary_weight", -0.1), ("seed_sigma", -1.0)],
        *[("weight_sigma", INF), ("min_fragment_size", -1)],
    ],
    mutex_watershed: [("strides", (1, 0, 1)), ("strides", (1, 2)), ("dust_remove_size", -1)],
    polarity: [
        *[("threshold", 1.5), ("max_distance", -1.0), ("max_distance", INF)],
        ("dust_remove_size", -1),
    ],
}


@pytest.mark.parametrize(
    ("decoder", "name", "value"),
    [(decoder, *one) for decoder, several in OUT_OF_RANGE.items() for one in several],
)
def test_settings_out_of_range_are_refused(decoder, name, value):
    prediction = smooth(CHANNELS[decoder], (2, 3, 4))
    with pytest.raises(UserError, match=f"{name}.*(must be|did you mean|allowed: )"):
        decoder(prediction, **{name: value}, **facts_of(decoder))
    target = f"{decoder.__module__}.{decoder.__name__}"
    with pytest.raises(UserError, match=f"^decoding.{name}"):
        build({"_target_": target, name: value}, kind="decoding")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"time_limit": 5}, r"decoding.time_limit.*waterz"),
        (
            {"best_buddy": True, "one_sided_min_size": 5},
            r"one_sided_min_size is 5, .* without decoding.one_sided_threshold: set that, or .*=0",
        ),
        (
            {"best_buddy": True, "singleton_size_ratio": 0.5},
            r"singleton_size_ratio is 0.5, which does nothing without decoding.iou_threshold",
        ),
        (
            {"branch_affinity": 0.5},
            r"branch_affinity is 0.5, .* without decoding.iou_threshold, best_buddy or one_sided",
        ),
    ],
)
def test_settings_that_do_nothing_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Agglomerate(**settings)


@by_name
def test_predictions_of_another_form_are_refused(decoder):
    channels, facts = CHANNELS[decoder], facts_of(decoder)
    for prediction, words in (
        (np.zeros((channels, 2, 0, 2), np.float32), r"shape \(\d, 2, 0, 2\)"),
        (np.zeros((channels, 2, 2), np.float32), r"shape \(\d, 2, 2\), not \(C, Z, Y, X\)"),
        (np.zeros((channels + 2, 2, 2, 2), np.float32), f"has {channels + 2}"),
        (np.zeros((channels, 2, 2, 2)), r"float64.*float32, float16 or uint8"),
    ):
        with pytest.raises(UserError, match=words):
            decoder(prediction, **facts)


@pytest.mark.parametrize(
    ("decoder", "settings"),
    [*((decoder, {}) for decoder in CHANNELS), *(one for one in SWEEPS if one[0] is agglomerate)],
)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_logits_and_nan_are_refused(decoder, settings, dtype):
    for channel in range(CHANNELS[decoder]):
        for value in (NAN, INF, -INF, -3.5, 1.25):
            prediction = np.full((CHANNELS[decoder], 3, 4, 4), 0.5, dtype)
            prediction[channel, 2, 2, 1] = value
            with pytest.raises(UserError, match=r"runs from .*; .*probabilities in \[0, 1\]"):
                decoder(prediction, **settings, **facts_of(decoder))


@pytest.mark.parametrize("decoder", [affinity_cc, agglomerate, multicut])
@pytest.mark.parametrize(
    "offsets",
    [
        [(1, 0, 0), (0, 1, 0), (0, 1, 0)],
        [(1, 0, 0), (0, 1, 0), (0, 1, 1)],
        [(1, 0, 0), (0, 1, 0), (0, 0, 0)],
        [(1, 0, 0), (0, 1, 0)],
        [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 3)],
    ],
)
def test_offsets_that_are_not_one_an_axis_are_named(decoder, offsets):
    prediction = np.zeros((len(offsets), 2, 2, 2), np.float32)
    with pytest.raises(UserError, match=r"\[1, 0, 0\].*select_channel"):
        decoder(prediction, offsets=offsets, edge_side="source")


@pytest.mark.parametrize("decoder", [lifted_multicut, mutex_watershed])
def test_nearest_and_longer_offsets_are_both_needed(decoder):
    prediction = smooth(6, (2, 3, 4))
    for offsets, words in (
        (OFFSETS[:3], f"{decoder.__name__} needs .* longer .*target=aff6_long"),
        ([*OFFSETS[:3], *OFFSETS[:3]], "axis 0 .* have 2"),
        ([(2, 0, 1), *OFFSETS[1:3], (3, 0, 1), *OFFSETS[4:]], "axis 0 .* have 0"),
    ):
        with pytest.raises(UserError, match=words):
            decoder(prediction[: len(offsets)], offsets=offsets, edge_side="source")


def test_another_edge_side_is_refused():
    with pytest.raises(UserError, match="'Source' in edge_side.*did you mean 'source'"):
        agglomerate(smooth(3), offsets=OFFSETS[:3], edge_side="Source")
