import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data.drawn_samples import KINDS, copied, random_sample
from emseg.data.augment import (
    Brightness,
    Contrast,
    CutBlur,
    CutNoise,
    Cutout,
    DropSlices,
    Gamma,
    GaussianNoise,
    Grayscale,
    MissingParts,
    MissingSections,
    OutOfFocus,
    Sample,
    SectionBlur,
    ShiftSlices,
    Size,
    Transform,
    grey_values,
)

SEEDS = st.integers(0, 2**32 - 1)
# Those that draw the same whatever the image's type.
SAME_DRAWS = [
    Brightness(shift=(-0.5, 0.5), p=1),
    Contrast(gain=(0.0, 3.0), p=1),
    Gamma(gamma=(0.2, 5.0), p=1),
    Grayscale(scope="mixed", p=1),
    Grayscale(gain=(0.0, 5.0), shift=(-1.0, 1.0), scope="volume", p=1),
    MissingSections(p=1),
    MissingParts(fill=(0.0, 1.0), p=1),
    OutOfFocus(p=1),
    SectionBlur(p=1),
    SectionBlur(widths=None, p=1),
    Cutout(count=(1, 3), depth=(1, 3), side=(1, 3), fill=0.3, p=1),
    CutBlur(p=1),
    DropSlices(fill=0.7, p=1),
    ShiftSlices(p=1),
]


@settings(deadline=None, max_examples=100)
@given(
    transform=st.sampled_from(SAME_DRAWS),
    size=st.tuples(*[st.integers(1, 7)] * 3),
    channels=st.integers(1, 2),
    seed=SEEDS,
)
def test_levels_are_rounded_intensities(
    transform: Transform, size: Size, channels: int, seed: int
) -> None:
    levels, exact = (
        transform(random_sample(size, kind, channels), size, np.random.default_rng(seed)).image
        for kind in KINDS
    )
    assert levels.dtype == np.uint8 and exact.dtype == np.float32
    assert np.abs(levels - 255 * exact.astype(np.float64)).max() <= 0.5 + 1e-3


# As strong as they may be.
STRONG = [
    MissingSections(sections=(3, 9), full=0.3, part=(0.0, 1.0), p=1),
    MissingParts(sections=(3, 9), hole=(0.0, 1.0), p=1),
    OutOfFocus(sections=(3, 9), sigma=(0.0, 5.0), full=0.0, p=1),
    SectionBlur(sigma=(0.0, 5.0), widths=(1, 9), p=1),
    Cutout(p=1),
    Grayscale(gamma=(0.01, 50.0), gain=(0.0, 90.0), shift=(-2.0, 2.0), p=1),
    DropSlices(rate=1, p=1),
    ShiftSlices(rate=1, displacement=9, p=1),
    GaussianNoise(sigma=(0.0, 50.0), p=1),
    CutNoise(length=(0.0, 1.0), p=1),
]


@settings(deadline=None, max_examples=200)
@given(
    transform=st.sampled_from([*SAME_DRAWS, *STRONG]),
    size=st.tuples(*[st.integers(1, 6)] * 3),
    kind=st.sampled_from(KINDS),
    channels=st.integers(1, 2),
    sealed=st.booleans(),
    seed=SEEDS,
)
def test_labels_stay_intensities_saturate_and_read_only_arrays_are_not_written_to(
    transform: Transform, size: Size, kind: type, channels: int, sealed: bool, seed: int
) -> None:
    sample = random_sample(size, kind, channels, seed)
    before = copied(sample)
    for array in (sample.image, sample.labels):
        array.flags.writeable = not sealed
    after = transform(sample, size, np.random.default_rng(seed))
    assert after.image.dtype == kind and after.image.shape == before.image.shape
    assert after.image.min() >= 0 and after.image.max() <= (255 if kind is np.uint8 else 1)
    np.testing.assert_array_equal(after.labels, before.labels)
    if sealed:
        np.testing.assert_array_equal(sample.image, before.image)


@pytest.mark.parametrize("transform", SAME_DRAWS)
def test_a_view_is_changed_as_the_array_itself(transform: Transform) -> None:
    """Flipped and transposed views, and parts of a larger array, as geometry leaves them."""
    size = (4, 6, 6)
    sample = random_sample(size, np.uint8, 2)
    larger = np.zeros((2, 6, 8, 8), np.uint8)
    larger[:, 1:5, 1:7, 1:7] = sample.image
    turned = np.asfortranarray(sample.image)
    expected = transform(copied(sample), size, np.random.default_rng(0)).image
    for view in (larger[:, 1:5, 1:7, 1:7], turned, sample.image[:, ::-1].copy()[:, ::-1]):
        found = transform(Sample(view, sample.labels), size, np.random.default_rng(0)).image
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_normal_and_its_deviation_uniform(kind: type) -> None:
    """By the mean of squares, of a grey far from both ends."""
    size, full = (4, 32, 32), 255 if kind is np.uint8 else 1
    grey = np.full((2, *size), 128, np.uint8)
    grey = grey if kind is np.uint8 else grey / np.float32(255)
    labels, rng = np.zeros(size, np.int32), np.random.default_rng(5)

    def noise(low: float, high: float) -> np.ndarray:
        transform = GaussianNoise(sigma=(low, high), p=1)
        after = transform(Sample(grey.copy(), labels), size, rng).image
        return (after.astype(np.float64) - grey) / full

    values = np.concatenate([noise(0.08, 0.08) for _ in range(5)])
    # 40960 values: 4.5 standard errors.
    assert abs(values.mean()) < 4.5 * 0.08 / np.sqrt(values.size)
    assert abs(values.std() - 0.08) < 4.5 * 0.08 / np.sqrt(2 * values.size) + 1e-4
    assert abs(stats.kurtosis(values.ravel())) < 4.5 * np.sqrt(24 / values.size)
    assert abs(stats.skew(values.ravel())) < 4.5 * np.sqrt(6 / values.size)
    for axis in range(4):
        ahead, behind = np.moveaxis(values, axis, 0)[1:], np.moveaxis(values, axis, 0)[:-1]
        correlation = np.corrcoef(ahead.ravel(), behind.ravel())[0, 1]
        assert abs(correlation) < 4.5 / np.sqrt(ahead.size)

    deviations = [noise(0.02, 0.1).std() for _ in range(150)]
    assert stats.kstest(deviations, "uniform", (0.02, 0.08)).pvalue > 1e-3


def test_strong_noise_saturates_and_does_not_turn_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of noise is of 16 bits, which 255 sigma exceeds."""
    tables = []
    monkeypatch.setattr(grey_values, "add_noise", lambda _, table, *rest: tables.append(table))
    sample = random_sample((1, 2, 2))
    GaussianNoise(sigma=(90.0, 90.0), p=1)(sample, sample.size, np.random.default_rng(0))
    (table,) = tables
    assert table.dtype == np.int16 and (np.diff(table) >= 0).all()
    assert (table[0], table[-1]) == (-255, 255)


def bounds(changed: np.ndarray) -> tuple[slice, ...]:
    where = np.argwhere(changed)
    return tuple(map(slice, where.min(axis=0), where.max(axis=0) + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_noise_is_in_a_box_alone(kind: type) -> None:
    transform, size = CutNoise(length=(0.2, 0.5), sigma=(0.1, 0.1), p=1), (10, 20, 20)
    rng, starts = np.random.default_rng(6), []
    deviations, voxels = [], []
    grey = np.full((1, *size), 128, np.uint8)
    grey = grey if kind is np.uint8 else grey / np.float32(255)
    for _ in range(100):
        after = transform(Sample(grey.copy(), np.zeros(size, np.int32)), size, rng).image
        box = bounds((after != grey)[0])
        for part, length in zip(box, size, strict=True):
            assert 0.1 * length <= part.stop - part.start <= 0.5 * length
        inside = after[0][box].astype(np.float64) / (255 if kind is np.uint8 else 1)
        # Of a few voxels at the box's faces the noise may round to nothing.
        deviations.append(inside.std())
        voxels.append(inside.size)
        starts.append([part.start for part in box])
    found = np.average(deviations, weights=voxels)
    assert abs(found - 0.1) < 0.003
    assert np.array(starts).min(axis=0).tolist() == [0, 0, 0]
    assert (np.array(starts).max(axis=0) > [5, 10, 10]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_cut_blur_gives_squares_their_mean(kind: type) -> None:
    transform, size = CutBlur(length=(0.4, 0.6), ratio=(3, 3), p=1), (5, 20, 30)
    tolerance = 0.5 + 1e-3 if kind is np.uint8 else 1e-6
    for seed in range(40):
        sample = random_sample(size, kind, 2, seed)
        before = copied(sample).image
        after = transform(sample, size, np.random.default_rng(seed)).image
        sections, rows, columns = bounds((after != before).any(axis=0))
        # A pixel on the box's side may keep its value by chance, its whole side does not.
        assert rows.stop - rows.start in range(8, 13)
        assert columns.stop - columns.start in range(12, 19)
        for y in range(rows.start, rows.stop, 3):
            for x in range(columns.start, columns.stop, 3):
                square = (
                    slice(None),
                    sections,
                    slice(y, min(y + 3, rows.stop)),
                    slice(x, min(x + 3, columns.stop)),
                )
                mean = before[square].astype(np.float64).mean(axis=(2, 3), keepdims=True)
                assert np.abs(after[square] - mean).max() <= tolerance


def test_cut_blur_draws_all_its_ratios() -> None:
    transform, size = CutBlur(length=(1.0, 1.0), ratio=(2, 4), p=1), (1, 24, 24)
    rng, found = np.random.default_rng(0), []
    for seed in range(60):
        after = transform(random_sample(size, np.float32, seed=seed), size, rng).image[0, 0]
        found.append(24 // len(np.unique(after[0])))
    assert set(found) == {2, 3, 4} and min(found.count(ratio) for ratio in (2, 3, 4)) >= 8
