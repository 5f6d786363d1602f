"""Samples that show where their voxels come from, what changes in them, and extreme draws."""

from collections import Counter
from typing import Any

import numpy as np
from scipy import stats

from emseg.data.augment import Sample, Size, Transform

KINDS = (np.uint8, np.float32)
SIZE = (6, 8, 12)


def painted(labels: np.ndarray, kind: type = np.uint8, channels: int = 1) -> np.ndarray:
    """An image (C, Z, Y, X) that is a function of the labels alone, another in each channel."""
    levels = ((labels * 37) % 251)[np.newaxis] + np.arange(channels).reshape(-1, 1, 1, 1)
    return levels.astype(np.uint8) if kind is np.uint8 else (levels / 255).astype(np.float32)


def numbered(size: Size, kind: type = np.uint8, channels: int = 1) -> Sample:
    """Every voxel a label of its own, from 1 up, and the image painted from the labels."""
    labels = np.arange(1, np.prod(size) + 1, dtype=np.int32).reshape(size)
    return Sample(painted(labels, kind, channels), labels)


def random_sample(size: Size, kind: type = np.uint8, channels: int = 1, seed: int = 0) -> Sample:
    """Any intensities, and labels from -1 to 4."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (channels, *size), dtype=np.uint8)
    labels = rng.integers(-1, 5, size, dtype=np.int32)
    return Sample(levels if kind is np.uint8 else levels / np.float32(255), labels)


def copied(sample: Sample) -> Sample:
    """The same sample in arrays of its own."""
    return sample.with_arrays(sample.image.copy(), sample.labels.copy())


def read_for(transform: Transform, size: Size) -> Size:
    """The crop that the transform asks for."""
    depth, height, width = np.add(size, np.multiply(2, transform.margin(size))).tolist()
    return depth, height, width


def framed(size: Size, kind: type, frame: Size) -> Sample:
    """A labelled crop of grey 128 in the midst of what nobody may look at: white, unlabelled."""
    whole = np.add(size, np.multiply(2, frame))
    inside = (..., *(slice(around, around + n) for around, n in zip(frame, size, strict=True)))
    image, labels = np.full((1, *whole), 255, np.uint8), np.full(whole, -1, np.int32)
    image[inside], labels[inside] = 128, 7
    return Sample(image if kind is np.uint8 else image / np.float32(255), labels)


class Extreme:
    """Stands for a generator; uniform numbers are at one end of their interval, all things fire."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)

    def random(self, size: Any = None) -> Any:
        return 0.0 if size is None else np.zeros(size)

    def uniform(self, low: Any, high: Any, size: Any = None) -> Any:
        shape = np.broadcast_shapes(np.shape(low), np.shape(high)) if size is None else size
        drawn = np.where(self._rng.random(shape) < 0.5, low, high)
        return drawn if np.ndim(drawn) else float(drawn)


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
