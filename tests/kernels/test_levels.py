import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from emseg.kernels.intensity_levels import add_noise, blur, look_up

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def box_in(rng: np.random.Generator, shape: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Any box, an empty one too."""
    ends = np.sort([rng.integers(0, n + 1, 2) for n in shape], axis=1)
    return ends[:, 0], ends[:, 1]


@settings(max_examples=50)
@given(seed=SEEDS)
def test_levels_of_the_box_are_looked_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    table = rng.integers(0, 256, 256, dtype=np.uint8)
    start, stop = box_in(rng, image.shape[1:])
    expected = image.copy()
    inside = (slice(None), *map(slice, start, stop))
    expected[inside] = table[expected[inside]]
    look_up(image, table, start, stop)
    np.testing.assert_array_equal(image, expected)


def noisy_slowly(levels: np.ndarray, table: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Voxel after voxel takes 16 bits, the lowest of a word first; the lowest 13 are the entry."""
    entries = table[raw.astype("<u8").view("<u2")[: len(levels)] % 8192]
    return np.clip(levels.astype(int) + entries, 0, 255)


@settings(max_examples=50)
@given(size=st.integers(0, 70), seed=SEEDS)
def test_noise_is_the_tables(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, size, dtype=np.uint8)
    table = rng.integers(-255, 256, 8192).astype(np.int16)
    raw = rng.integers(2**64 - 1, size=(size + 3) // 4, dtype=np.uint64, endpoint=True)
    expected = noisy_slowly(levels, table, raw)
    add_noise(levels, table, raw.view(np.uint16))
    np.testing.assert_array_equal(levels, expected)


def blurred_slowly(section: np.ndarray, sigma: float) -> np.ndarray:
    """Each pixel the mean of those within 3 sigma and within the section, by a Gaussian."""
    height, width = section.shape
    radius = math.ceil(3 * sigma)
    out = np.zeros_like(section, np.float64)
    for y, x in np.ndindex(section.shape):
        rows = np.arange(max(0, y - radius), min(height, y + radius + 1))
        columns = np.arange(max(0, x - radius), min(width, x + radius + 1))
        weights = np.exp(-0.5 * ((rows[:, None] - y) ** 2 + (columns - x) ** 2) / sigma**2)
        out[y, x] = (weights * section[np.ix_(rows, columns)]).sum() / weights.sum()
    return out


@settings(max_examples=50)
@given(size=SIZES, sigma=st.one_of(st.floats(0.01, 4), st.floats(20, 50)), seed=SEEDS)
def test_blur_is_a_mean_of_what_is_there(size: tuple, sigma: float, seed: int) -> None:
    section = np.random.default_rng(seed).random(size, np.float32)
    before = section.copy()
    found = blur(section, sigma)
    assert found.dtype == np.float32 and not np.shares_memory(found, section)
    np.testing.assert_array_equal(section, before)
    np.testing.assert_allclose(found, blurred_slowly(section, sigma), atol=2e-6)


@settings(max_examples=50)
@given(size=SIZES, sigma=st.floats(0.01, 6), seed=SEEDS)
def test_blur_makes_nothing_brighter_than_the_brightest(
    size: tuple, sigma: float, seed: int
) -> None:
    section = 1 - np.random.default_rng(seed).integers(0, 2, size).astype(np.float32) * 6e-8
    assert blur(section, sigma).max() <= 1
    assert (blur(np.ones(size, np.float32), sigma) == 1).all()


@pytest.mark.parametrize("sigma", [0.0, 1e-3])
def test_blur_of_no_width_changes_nothing(sigma: float) -> None:
    section = np.random.default_rng(1).random((5, 1), np.float32)
    np.testing.assert_array_equal(blur(section, sigma), section)


def test_noise_is_as_likely_at_every_entry_and_voxels_are_independent() -> None:
    rng = np.random.default_rng(3)
    image = np.zeros(4 * 64 * 64, np.uint8)
    table = (np.arange(8192) % 256).astype(np.int16)
    raw = rng.integers(2**64 - 1, size=image.size // 4, dtype=np.uint64, endpoint=True)
    add_noise(image, table, raw.view(np.uint16))
    counts = np.bincount(image, minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-4
    flat = image.ravel().astype(float)
    for lag in range(1, 9):
        # The correlation of so many independent numbers has the deviation 1 / sqrt(n).
        correlation = np.corrcoef(flat[lag:], flat[:-lag])[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(flat.size)
