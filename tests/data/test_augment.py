from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data.drawn_samples import KINDS, numbered, painted
from emseg.data.augment import (
    Brightness,
    Contrast,
    Flip,
    Gamma,
    Grayscale,
    Permute,
    Pipeline,
    Rot90,
    Sample,
    Transform,
)

STILL: dict[str, Any] = {"gain": (1, 1), "shift": (0, 0)}
GEOMETRY = st.one_of(
    st.builds(Flip, axes=st.sampled_from([(0, 1, 2), (2,), (1, 0)]), p=st.floats(0, 1)),
    st.builds(Rot90, axes=st.permutations(range(3)).map(lambda a: tuple(a[:2])), p=st.floats(0, 1)),
    st.builds(Permute, axes=st.sampled_from([(0, 1, 2), (2, 1)]), p=st.floats(0, 1)),
)


def random_sample(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 5, (4, 6, 6), dtype=np.int32)
    return Sample(rng.random((1, 4, 6, 6), dtype=np.float32), labels)


@settings(deadline=None, max_examples=60)
@given(
    transforms=st.lists(GEOMETRY, max_size=4),
    kind=st.sampled_from(KINDS),
    channels=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_image_and_labels_move_together(
    transforms: list[Transform], kind: type, channels: int, seed: int
) -> None:
    pipeline = Pipeline(transforms={str(i): t for i, t in enumerate(transforms)})
    sample = numbered((4, 4, 4), kind, channels)
    moved = pipeline(sample, (4, 4, 4), np.random.default_rng(seed))
    np.testing.assert_array_equal(moved.image, painted(moved.labels, kind, channels))
    assert sorted(moved.labels.ravel()) == list(range(1, 65))
    assert moved.labels.dtype == np.int32 and moved.image.dtype == kind


def seen(pipeline: Pipeline, shape: tuple[int, int, int], count: int) -> Counter[bytes]:
    """How often which arrangement of the labels comes out."""
    rng = np.random.default_rng(0)
    found = (pipeline(numbered(shape), shape, rng).labels for _ in range(count))
    return Counter(np.ascontiguousarray(labels).tobytes() for labels in found)


@pytest.mark.parametrize(
    ("axes", "shape", "symmetries"), [((1, 2), (1, 2, 2), 8), ((0, 1, 2), (2, 2, 2), 48)]
)
def test_flips_and_permutations_give_all_symmetries_alike(
    axes: tuple[int, ...], shape: tuple[int, int, int], symmetries: int
) -> None:
    pipeline = Pipeline(transforms={"flip": Flip(axes=axes), "permute": Permute(axes=axes)})
    count = 100 * symmetries
    found = seen(pipeline, shape, count)
    assert len(found) == symmetries
    # Five standard deviations around 100 draws each.
    assert all(abs(times - 100) < 50 for times in found.values())


def test_quarter_turns_are_those_of_the_plane() -> None:
    sample = numbered((2, 3, 3))
    turned = [np.rot90(sample.labels, turns, (1, 2)) for turns in (1, 2, 3)]
    found = seen(Pipeline(transforms={"turn": Rot90(axes=(1, 2), p=1)}), (2, 3, 3), 300)
    assert set(found) == {np.ascontiguousarray(t).tobytes() for t in turned}
    assert min(found.values()) > 60


def test_intensities_are_what_they_say() -> None:
    rng = np.random.default_rng(3)
    before = random_sample(1).image * np.float32(0.2) + np.float32(0.4)

    def after(transform: Transform) -> np.ndarray:
        sample = Sample(before.copy(), random_sample(1).labels)
        return transform(sample, (4, 6, 6), rng).image

    shifted = after(Brightness(shift=(0.05, 0.05), p=1))
    np.testing.assert_allclose(shifted, before + 0.05, atol=1e-6)
    stretched = after(Contrast(gain=(1.5, 1.5), p=1))
    np.testing.assert_allclose(stretched, 1.5 * (before - before.mean()) + before.mean(), atol=1e-6)
    np.testing.assert_allclose(after(Gamma(gamma=(2, 2), p=1)), before**2, atol=1e-6)


@pytest.mark.parametrize(
    "transform",
    [Gamma(gamma=(1 / 4, 4), p=1), Grayscale(**STILL, gamma=(1 / 4, 4), scope="volume", p=1)],
)
def test_logarithms_of_powers_are_uniform(transform: Transform) -> None:
    rng, one, labels = np.random.default_rng(4), (1, 1, 1), np.zeros((1, 1, 1), np.int32)
    greys = [
        transform(Sample(np.full((1, 1, 1, 1), 0.5, np.float32), labels), one, rng).image.item()
        for _ in range(1000)
    ]
    assert stats.kstest(np.log2(-np.log2(greys)), "uniform", (-2, 4)).pvalue > 1e-3
