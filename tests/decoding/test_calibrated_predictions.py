import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from emseg.decoding.stored_values import Calibration, calibrated, calibration_of
from emseg.errors import UserError
from emseg.volumes import from_array

LOGITS = np.random.default_rng(0).normal(0, 3, (3, 4, 5, 6)).astype(np.float32)
BIASES = (-0.5, -1.0, 0.25)


def moved(logits: np.ndarray, biases: tuple[float, ...], temperature: float) -> np.ndarray:
    by_channel = np.array(biases, float)[:, None, None, None]
    return expit((logits.astype(float) + by_channel) / temperature)


@settings(deadline=None, max_examples=40)
@given(
    biases=st.tuples(*[st.floats(-5, 5)] * 3),
    temperature=st.floats(0.1, 10),
    dtype=st.sampled_from([np.float32, np.float16]),
)
def test_logits_become_the_probabilities_of_the_formula(biases, temperature, dtype):
    stored = LOGITS.astype(dtype)
    found = Calibration(biases, temperature)(stored, logits=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, moved(stored, biases, temperature), rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_probabilities_are_moved_by_their_logits(dtype):
    stored = expit(LOGITS)
    stored = np.round(255 * stored).astype(dtype) if dtype is np.uint8 else stored.astype(dtype)
    same = stored.astype(float) / (255 if dtype is np.uint8 else 1)
    found = Calibration(BIASES, 1.7)(stored, logits=False)
    with np.errstate(divide="ignore"):
        expected = moved(logit(same), BIASES, 1.7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_what_is_sure_stays_sure():
    ends = np.array([0, 1, -0.0], np.float32).reshape(1, 1, 1, 3)
    assert Calibration((-3.0,), 2.0)(ends, logits=False).ravel().tolist() == [0, 1, 0]
    far = np.array([-1e4, 1e4], np.float32).reshape(1, 1, 1, 2)
    assert Calibration((-3.0,), 2.0)(far, logits=True).ravel().tolist() == [0, 1]


def test_what_is_no_probability_does_not_become_one():
    bad = np.array([1.5, -0.5, np.nan], np.float32).reshape(1, 1, 1, 3)
    assert np.isnan(Calibration((1.0,), 1.0)(bad, logits=False)).all()


def test_a_volume_is_calibrated_as_it_is_read():
    whole = Calibration(BIASES, 2.0)(LOGITS, logits=True)
    volume = from_array(LOGITS[::-1], axes="czyx", voxel_size=(3, 2, 1)).select([2, 1, 0])
    found = calibrated(volume, Calibration(BIASES, 2.0), logits=True)
    assert (found.shape, found.channels, found.dtype) == ((4, 5, 6), 3, np.float32)
    assert found.voxel_size == (3, 2, 1) and found.axes == "zyx"
    np.testing.assert_array_equal(found[...], whole)
    part = found.read((1, 2, 3), (4, 5, 6), channels=[2, 0])
    np.testing.assert_array_equal(part, whole[[2, 0], 1:4, 2:5, 3:6])


def test_a_leaf_asks_for_it_by_biases_or_temperature():
    assert calibration_of({}) is None
    assert calibration_of({"biases": None, "temperature": 1.0}) is None
    assert calibration_of({"biases": [0, 0.0], "temperature": 1.0}) == Calibration((0, 0), 1.0)
    assert calibration_of({"biases": None, "temperature": 2.0}) == Calibration(None, 2.0)


@pytest.mark.parametrize(
    ("biases", "temperature", "message"),
    [
        ((0.0, 0.0), 1.0, "one bias for each of the 3 channels"),
        ((0.0, 0.0, np.inf), 1.0, "finite"),
        (None, 0.0, "temperature is 0.0; it must be above 0"),
        (None, np.nan, "temperature is nan"),
    ],
)
def test_impossible_calibrations_are_refused(biases, temperature, message):
    with pytest.raises(UserError, match=message):
        calibrated(from_array(LOGITS, axes="czyx"), Calibration(biases, temperature), logits=True)
