from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data.drawn_samples import KINDS, random_sample
from emseg.data.augment import CellShade, CopyPaste, Mixup, Pipeline, Sample, Size
from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.targets import Affinity
from emseg.volumes import from_array

SIZE = (3, 8, 10)
LARGEST = np.iinfo(np.int32).max


def pieces(seed: int, ids: list[int], size: Size = SIZE) -> Sample:
    """Blocky objects and unlabelled voxels; each voxel's intensity is its own."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, *ids], [size[0], -(-size[1] // 2), -(-size[2] // 2)])
    labels = blocks.repeat(2, 1).repeat(2, 2)[:, : size[1], : size[2]].astype(np.int32)
    labels[rng.random(size) < 0.1] = -1
    numbers = np.arange(labels.size, dtype=np.float32).reshape(1, *size)
    return Sample(np.concatenate([numbers, -numbers]) / 1024, labels)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    ids=st.sampled_from([[1, 2, 5], [LARGEST, 3], [LARGEST - 1, LARGEST]]),
    size=st.sampled_from([SIZE, (1, 1, 1), (2, 5, 3)]),
    sealed=st.booleans(),
)
def test_pasted_object_is_the_copied_one_and_has_a_label_of_its_own(
    seed: int, ids: list[int], size: Size, sealed: bool
) -> None:
    sample = pieces(seed, ids, size)
    for array in (sample.image, sample.labels):
        array.flags.writeable = not sealed
    image, labels = sample.image.copy(), sample.labels.copy()
    after = CopyPaste(min_size=3, p=1)(sample, size, np.random.default_rng(seed))
    assert after.labels.dtype == np.int32 and after.image.dtype == np.float32
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.labels, labels)

    pasted = after.labels != labels
    assert (after.image[:, ~pasted] == image[:, ~pasted]).all()
    if not pasted.any():
        return
    (new,) = np.unique(after.labels[pasted])
    assert new > 0 and new not in labels
    # Where it was copied from: the image says.
    source = np.rint(after.image[0][pasted] * 1024).astype(int)
    np.testing.assert_array_equal(after.image[1][pasted], -after.image[0][pasted])
    (copied,) = np.unique(labels.ravel()[source])
    assert copied in ids and (labels == copied).sum() >= 3
    there, here = np.array(np.unravel_index(source, size)), np.argwhere(pasted).T
    np.testing.assert_array_equal(there[0], here[0])
    moves = [
        [sign for sign in (1, -1) if len(np.unique(here[axis] - sign * there[axis])) == 1]
        for axis in (1, 2)
    ]
    assert all(moves)
    assert any(
        whole(labels == copied, pasted, labels, there, here, signs)
        for signs in np.stack(np.meshgrid(*moves), -1).reshape(-1, 2)
    )


def whole(
    copied: np.ndarray,
    pasted: np.ndarray,
    labels: np.ndarray,
    there: np.ndarray,
    here: np.ndarray,
    signs: np.ndarray,
) -> bool:
    """Whether all that lands inside on labelled voxels is pasted, and not moved too far."""
    signs = np.array([1, *signs])
    shift = here[:, 0] - signs * there[:, 0]
    # A mirrored object is first where its mirror image is.
    home = np.where(signs == -1, np.array(labels.shape) - 1, 0)
    if (np.abs(shift - home) > np.array(labels.shape) // 2).any():
        return False
    expected = np.zeros_like(pasted)
    for place in np.argwhere(copied):
        to = signs * place + shift
        if (to >= 0).all() and (to < labels.shape).all():
            expected[tuple(to)] = labels[tuple(to)] >= 0
    return bool((expected == pasted).all())


def test_all_objects_and_mirrors_are_copied_alike() -> None:
    labels = np.zeros((1, 9, 9), np.int32)
    labels[0, 4, 3:6], labels[0, 0, 0], labels[0, 8, 6:9] = 1, 2, 3
    image = np.where(labels == 0, 0, np.arange(81).reshape(1, 9, 9)).astype(np.uint8)[np.newaxis]
    rng, objects, mirrored = np.random.default_rng(0), Counter(), Counter()
    for _ in range(600):
        after = CopyPaste(min_size=2, p=1)(Sample(image, labels), (1, 9, 9), rng)
        row = after.image[0][after.labels == 4]
        if len(row) == 3:
            objects[int(labels.ravel()[row[0]])] += 1
            mirrored[bool(row[0] > row[2])] += 1
    # 2 is too small; those at the side leave the sample more often.
    assert set(objects) == {1, 3} and objects[1] > objects[3] > 60
    assert stats.binomtest(mirrored[True], sum(mirrored.values())).pvalue > 1e-4


def test_nothing_is_pasted_where_no_object_is_large_enough() -> None:
    sample = pieces(0, [1, 2])
    rng = np.random.default_rng(0)
    assert CopyPaste(min_size=1000, p=1)(sample, SIZE, rng) is sample


@pytest.mark.parametrize("own", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_mixup_takes_its_share_whatever_the_types(own: type, other: type) -> None:
    grey = {np.uint8: np.uint8(51), np.float32: np.float32(0.2)}[own]
    white = {np.uint8: np.uint8(255), np.float32: np.float32(1)}[other]
    labels, sizes = np.ones(SIZE, np.int32), []

    def draw(size: Size, rng: np.random.Generator) -> Sample:
        sizes.append(size)
        return Sample(np.full((2, *size), white), np.zeros(size, np.int32))

    rng, shares = np.random.default_rng(0), []
    for _ in range(200):
        sample = Sample(np.full((2, *SIZE), grey), labels, draw)
        mixed = Mixup(ratio=(0.6, 0.9), p=1)(sample, SIZE, rng)
        assert mixed.image.dtype == own and mixed.labels is labels
        (value,) = np.unique(mixed.image)
        shares.append((1 - value / (255 if own is np.uint8 else 1)) / 0.8)
    assert set(sizes) == {SIZE}
    assert stats.kstest(shares, "uniform", (0.6, 0.3)).pvalue > 1e-3


def test_a_data_set_mixes_volumes_of_different_types() -> None:
    labels = np.ones((4, 6, 6), np.uint8)
    volumes = [
        LabelledVolume(from_array(image), from_array(labels))
        for image in (np.full((4, 6, 6), 102, np.uint8), np.full((4, 6, 6), 0.8, np.float32))
    ]
    patches = PatchDataset(
        volumes,
        patch_size=(2, 3, 3),
        seed=0,
        target=Affinity(offsets=[(1, 0, 0)]),
        augment=Pipeline(transforms={"mixup": Mixup(ratio=(0.5, 0.5), p=1)}),
    )
    values = Counter(round(float(patches[index]["image"].mean()), 2) for index in range(80))
    assert set(values) == {0.4, 0.6, 0.8}


def test_mixup_without_a_data_set_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="draw another"):
        Mixup(p=1)(pieces(0, [1]), SIZE, np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_cell_shade_moves_whole_bodies_towards_the_dark_end(kind: type) -> None:
    size, full = (4, 12, 12), 255 if kind is np.uint8 else 1
    tolerance = 0.5 / 255 + 1e-6
    moved = []
    for seed in range(30):
        sample = random_sample(size, kind, 2, seed)
        labels = np.random.default_rng(seed).integers(-1, 5, size).astype(np.int32)
        sample = sample.with_arrays(sample.image, labels)
        before = sample.image.astype(np.float64) / full
        shade = CellShade(share=0.5, shade=(0.3, 0.6), p=1)
        after = shade(sample, size, np.random.default_rng(seed))
        np.testing.assert_array_equal(after.labels, labels)
        change = after.image / full - before
        dark = np.percentile(before, 5)
        assert not change[:, labels < 1].any()
        for body in range(1, 5):
            inside = labels == body
            above = before[:, inside] - dark
            # One factor for the whole body, by least squares.
            factor = -(change[:, inside] * above).sum() / (above**2).sum()
            assert factor == 0 or 0.3 - 0.01 < factor < 0.6 + 0.01
            assert np.abs(change[:, inside] + factor * above).max() <= 2 * tolerance
            moved.append(factor > 0)
    assert 0.3 < np.mean(moved) < 0.7
