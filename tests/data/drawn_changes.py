"""What a transform changed, seen over many samples."""

from collections import Counter

import numpy as np
from scipy import stats

from data.drawn_samples import copied, random_sample
from emseg.data.augment import Size, Transform

SIZE = (6, 8, 12)


def changes(
    transform: Transform, count: int, *, kind: type = np.uint8, size: Size = SIZE
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images before and after, of one channel (Z, Y, X); labels have stayed."""
    rng, found = np.random.default_rng(7), []
    for seed in range(count):
        sample = random_sample(size, kind, seed=seed)
        after = transform(copied(sample), size, rng)
        np.testing.assert_array_equal(after.labels, sample.labels)
        assert after.image.dtype == kind and after.image.shape == sample.image.shape
        found.append((sample.image[0], after.image[0]))
    return found


def assert_alike(counts: Counter, values: set) -> None:
    """All of the values occur, and none more often than another."""
    assert set(counts) == values
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4
