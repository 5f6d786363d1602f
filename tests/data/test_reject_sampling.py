"""Patches are rejected by the foreground that is stored, as often as the formula says."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from emseg.data.augment import Pipeline, Sample, Size, Transform
from emseg.data.dataset import PatchDataset
from emseg.data.foreground import Foreground
from emseg.data.labelled import LabelledVolume
from emseg.data.sampling import MOST_DRAWS, RejectSampling
from emseg.errors import UserError
from emseg.volumes import from_array

PATCH = (2, 4, 4)
SHAPE = (6, 12, 12)


def clefts(*, seed: int = 0, share: float = 0.02) -> np.ndarray:
    """A few cubes of foreground and some unlabelled voxels."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(SHAPE) < share, 3, 0).astype(np.int32)
    labels[rng.random(SHAPE) < 0.05] = -1
    return labels


def dataset(labels: np.ndarray, **settings: object) -> PatchDataset:
    image = from_array((labels + 1).astype(np.uint8))
    volume = LabelledVolume(image, from_array(labels))
    choices = {"patch_size": PATCH, "seed": 3, "target": Foreground(), **settings}
    return PatchDataset([volume], **choices)


def with_enough(labels: np.ndarray, least: int) -> float:
    """The share of all patches that have `least` voxels of foreground."""
    corners = itertools.product(*(range(n - p + 1) for n, p in zip(SHAPE, PATCH, strict=True)))
    counts = [
        np.count_nonzero(
            labels[tuple(slice(a, a + p) for a, p in zip(corner, PATCH, strict=True))] > 0
        )
        for corner in corners
    ]
    return float(np.mean(np.array(counts) >= least))


@pytest.mark.parametrize(("least", "p"), [(1, 0.95), (2, 0.95), (1, 0.5), (3, 0.8), (1, 0.0)])
def test_draws_and_background_are_those_of_the_formula(least: int, p: float) -> None:
    labels, count = clefts(), 3000
    f = with_enough(labels, least)
    assert 0.01 < f < 0.99
    drawn = dataset(labels, reject=RejectSampling(least, p))
    draws = np.array([drawn[index]["draws"] for index in range(count)])
    number, foreground, accepted = draws.T
    accepting = f + (1 - f) * (1 - p)
    # The number of draws is geometric: five of its standard deviations (over the root of n).
    spread = np.sqrt((1 - accepting) / accepting**2 / count)
    assert accepted.all()
    assert abs(number.mean() - 1 / accepting) < 5 * spread + 1e-9
    background = (1 - f) * (1 - p) / accepting
    spread = np.sqrt(background * (1 - background) / count)
    assert abs((foreground == 0).mean() - background) < 5 * spread + 1e-9


def test_a_sample_says_truly_whether_its_patch_has_foreground() -> None:
    drawn = dataset(clefts(), reject=RejectSampling(2, 0.6))
    found = [drawn[index] for index in range(200)]
    for sample in found:
        assert bool(sample["draws"][1]) == (np.count_nonzero(sample["label"] > 0) >= 2)
    assert {bool(sample["draws"][1]) for sample in found} == {True, False}


class Blank(Transform):
    """Takes all labels away, and asks for a margin."""

    def margin(self, size: Size) -> Size:
        return (1, 3, 3)

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        middle = sample.centre(size)
        return replace(middle, labels=np.zeros_like(middle.labels))


@pytest.mark.parametrize(("least", "found"), [(8, [1, 1, 1]), (9, [MOST_DRAWS, 0, 0])])
def test_the_patch_is_judged_before_augmentation_and_without_its_margin(
    least: int, found: list[int]
) -> None:
    labels = np.zeros((4, 10, 10), np.int32)  # one crop with its margin
    labels[:, 4:6, 4:6] = 1
    labels[:, 0] = labels[:, -1] = 1
    augment = Pipeline(transforms={"blank": Blank()})
    sample = dataset(labels, augment=augment, reject=RejectSampling(least, 1.0))[0]
    assert sample["draws"].tolist() == found
    assert not sample["target"].any()
    assert "draws" not in dataset(labels, augment=augment)[0]


def test_what_is_never_found_is_given_up() -> None:
    labels = np.zeros(SHAPE, np.int32)
    labels[0, 0, 0] = labels[-1, -1, -1] = 1  # never both in one patch
    assert dataset(labels, reject=RejectSampling(2, 1.0))[0]["draws"].tolist() == [MOST_DRAWS, 0, 0]
    assert dataset(labels, reject=RejectSampling(2, 0.0))[0]["draws"].tolist() == [1, 0, 1]
    with pytest.raises(UserError, match="no more than 0 in"):
        dataset(np.zeros(SHAPE, np.int32), reject=RejectSampling(1, 1.0))


def test_labels_partly_outside_a_small_volume_count_where_they_are() -> None:
    labels = np.ones((1, 12, 12), np.int32)
    patches = dataset(labels, pad_small=True, reject=RejectSampling(16, 1.0))
    assert patches[0]["draws"].tolist() == [1, 1, 1]
    patches = dataset(labels, pad_small=True, reject=RejectSampling(17, 1.0))
    assert patches[0]["draws"].tolist() == [MOST_DRAWS, 0, 0]


def test_more_foreground_than_a_patch_holds_is_refused() -> None:
    with pytest.raises(UserError, match="size_thres: 33 is more than the 32 voxels of a patch"):
        dataset(clefts(), reject=RejectSampling(33, 0.5))
