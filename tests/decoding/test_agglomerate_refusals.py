import numpy as np
import pytest

from emseg.decoding.agglomerate import agglomerate, agglomerate_sweep
from emseg.errors import UserError

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}


def noisy(seed, shape=(6, 16, 16)):
    return np.random.default_rng(seed).random((3, *shape), np.float32)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"merge_function": "aff84_his256"}, r"'aff84_his256' in .*did you mean 'aff85_his256'"),
        ({"merge_function": "median"}, r"'median' in decoding.merge_function.*mean"),
        ({"backend": "water"}, r"'water' in decoding.backend.*did you mean 'waterz'"),
        ({"thresholds": 1.5}, r"decoding.thresholds is 1.5"),
        ({"thresholds": -0.1}, r"decoding.thresholds is -0.1"),
        ({"thresholds": float("nan")}, r"decoding.thresholds is nan"),
        ({"aff_threshold": (0.9, 0.1)}, r"decoding.aff_threshold is \[0.9, 0.1\]"),
        ({"aff_threshold": (0.5, 0.5 + 1e-9)}, r"aff_threshold is \[0.5, 0.500000001\].*float32"),
        ({"aff_threshold": (1 - 1e-9, 1.0)}, r"decoding.aff_threshold is .*float32"),
        ({"edge_side": "Source"}, r"'Source' in edge_side.*did you mean 'source'"),
        ({"aff_threshold": (0.5, 0.5)}, r"decoding.aff_threshold is \[0.5, 0.5\]"),
        ({"aff_threshold": (-0.1, 0.5)}, r"decoding.aff_threshold"),
        ({"aff_threshold": (0.1, 1.5)}, r"decoding.aff_threshold"),
        ({"aff_threshold": (0.1, 0.5, 0.6)}, r"decoding.aff_threshold"),
        ({"aff_threshold": (float("nan"), 0.6)}, r"decoding.aff_threshold"),
        ({"discretize_queue": 128}, r"decoding.discretize_queue is 128.*0 or 256"),
        ({"dust_merge_size": -1}, r"decoding.dust_merge_size is -1"),
        ({"dust_remove_size": -1}, r"decoding.dust_remove_size is -1"),
        ({"dust_merge_affinity": 30}, r"decoding.dust_merge_affinity is 30"),
        ({"memory_limit": 0}, r"decoding.memory_limit is 0"),
        ({"threads": 0}, r"decoding.threads is 0"),
        ({"time_limit": 5}, r"decoding.time_limit.*waterz"),
        ({"time_limit": -5, "backend": "waterz"}, r"decoding.time_limit is -5"),
        ({"offsets": [(1, 0, 0), (0, 1, 0), (0, 1, 1)]}, r"\[0, 1, 1\]"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        agglomerate(noisy(0, (2, 2, 2)), **(FACTS | arguments))


@pytest.mark.parametrize("backend", ["numba", "waterz"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -3.5, 1.25])
def test_logits_and_nan_are_refused(value, dtype, backend):
    for axis in range(3):
        prediction = np.full((3, 4, 4, 4), 0.5, dtype)
        prediction[axis, 3, 2, 1] = value
        with pytest.raises(UserError, match=r"runs from .* to .*; .*probabilities in \[0, 1\]"):
            agglomerate(prediction, threads=2, backend=backend, **FACTS)


@pytest.mark.parametrize(
    "prediction, words",
    [
        (np.zeros((3, 2, 0, 2), np.float32), r"shape \(3, 2, 0, 2\)"),
        (np.zeros((2, 2, 2), np.float32), r"shape \(2, 2, 2\), not \(C, Z, Y, X\)"),
        (np.zeros((4, 2, 2, 2), np.float32), r"4 channels, its offsets are 3"),
        (np.zeros((3, 2, 2, 2)), r"float64.*float32, float16 or uint8"),
    ],
)
def test_predictions_of_another_form_are_refused(prediction, words):
    with pytest.raises(UserError, match=words):
        agglomerate(prediction, **FACTS)


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


def test_a_sweep_over_nothing_is_refused():
    with pytest.raises(UserError, match="decoding.thresholds is empty"):
        next(agglomerate_sweep(noisy(0, (2, 2, 2)), thresholds=[], **FACTS))
