import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data import intensity
from emseg.data.intensity import check_intensities, range_of, to_unit
from emseg.errors import UserError
from emseg.volumes import from_array


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_unsigned_integers_are_divided_by_their_maximum(dtype: type) -> None:
    most = np.iinfo(dtype).max
    unit = to_unit(np.array([[[0, most // 5, most]]], dtype=dtype))
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit.ravel(), [0, 0.2, 1], rtol=1e-6)
    assert unit.max() <= 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_taken_as_they_are_but_copied(dtype: type) -> None:
    stored = np.array([[[0, 0.25, 1]]], dtype=dtype)
    unit = to_unit(stored)
    np.testing.assert_array_equal(unit, stored)
    assert unit.dtype == np.float32 and not np.shares_memory(unit, stored)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_range_becomes_zero_to_one_and_saturates(dtype: type) -> None:
    unit = to_unit(np.array([5, 10, 15, 50, 60], dtype=dtype), intensity_range=(10, 50))
    np.testing.assert_allclose(unit, [0, 0, 0.125, 1, 1], atol=1e-7)


def volume(values: object, dtype: type) -> object:
    return from_array(np.array(values, dtype=dtype).reshape(-1, 1, 1))


@pytest.mark.parametrize(
    ("values", "dtype", "bounds", "message"),
    [
        ([0, np.nan, 1], np.float32, None, "NaN"),
        ([0, np.nan, 1], np.float32, (0, 1), "NaN"),
        ([0, np.inf, 1], np.float16, (0, 1), "infinite"),
        ([-2, 0, 3.5], np.float64, None, r"from -2 to 3.5.*intensity_range"),
        ([0, 1, 2], np.int16, None, "signed int16.*intensity_range"),
        ([0, 1, 1], np.bool_, None, "no image"),
        ([0, 1, 2], np.uint8, (3, 3), "lo < hi"),
    ],
)
def test_what_cannot_come_to_zero_to_one_is_refused(
    values: list, dtype: type, bounds: tuple[float, float] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_intensities(volume(values, dtype), intensity_range=bounds)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("dtype", "bounds"), [(np.uint8, None), (np.float32, None), (np.int16, (-5, 5))]
)
def test_good_intensities_pass(dtype: type, bounds: tuple[float, float] | None) -> None:
    check_intensities(volume([0, 1, 1], dtype), intensity_range=bounds)


def test_every_slab_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensity, "SLAB_VOXELS", 12)
    stored = np.zeros((5, 2, 3), np.float32)
    assert [slab.shape[0] for slab in intensity.slabs(from_array(stored))] == [2, 2, 1]
    stored[4, 1, 2] = np.nan
    with pytest.raises(UserError, match="NaN"):
        check_intensities(from_array(stored))


PERCENTS = st.sampled_from([0, 0.5, 1, 37.5, 99, 100])


@given(
    arrays(st.sampled_from([np.uint8, np.int16, np.uint16]), (3, 4, 5)),
    st.tuples(PERCENTS, PERCENTS),
)
def test_percentiles_of_small_integers_are_exact(stored: np.ndarray, asked: tuple) -> None:
    # numpy interpolates int16 within int16, where differences overflow
    wanted = np.percentile(stored.astype(np.float64), asked)
    if wanted[0] < wanted[1]:
        found = range_of(from_array(stored), intensity_percentiles=asked)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    else:
        with pytest.raises(UserError, match="intensity_percentiles"):
            range_of(from_array(stored), intensity_percentiles=asked)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint32])
def test_percentiles_of_other_types_are_near(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensity, "SLAB_VOXELS", 700)
    stored = (np.random.default_rng(0).gamma(2, 1e6, (2, 10, 20, 30)) + 1e7).astype(dtype)
    found = range_of(from_array(stored, axes="czyx"), intensity_percentiles=(1, 99))
    extent = float(stored.max()) - float(stored.min())
    np.testing.assert_allclose(found, np.percentile(stored, [1, 99]), rtol=0, atol=extent / 2**15)
    for scale in (1, 0):  # 0: all voxels alike
        flat = np.full((2, 2, 2), 7 * scale, dtype)
        with pytest.raises(UserError, match=r"\[1, 99\] are both"):
            range_of(from_array(flat), intensity_percentiles=(1, 99))


def test_of_a_volume_too_large_evenly_spaced_slabs_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored = np.arange(12, dtype=np.uint8).repeat(4).reshape(12, 2, 2)
    monkeypatch.setattr(intensity, "SLAB_VOXELS", 4)
    assert range_of(from_array(stored), intensity_percentiles=(0, 100)) == (0, 11)
    monkeypatch.setattr(intensity, "MOST_VOXELS", 16)
    assert range_of(from_array(stored), intensity_percentiles=(0, 100)) == (0, 9)


def test_what_percentiles_cannot_mend_is_refused() -> None:
    check_intensities(volume([-2, 0, 3.5], np.float64), intensity_percentiles=(1, 99))
    check_intensities(volume([0, 1, 2], np.int16), intensity_percentiles=(1, 99))
    with pytest.raises(UserError, match="NaN"):
        check_intensities(volume([0, np.nan, 1], np.float32), intensity_percentiles=(1, 99))
