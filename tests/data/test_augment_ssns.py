"""What SSNS-Net perturbs patches with, against what it says."""

from collections import Counter

import numpy as np
import pytest
from scipy import ndimage, stats

from data.drawn_samples import KINDS, assert_alike, changes, numbered, read_for
from emseg.config.choices import conf_folder
from emseg.config.reading import read_yaml
from emseg.data.augment import Cutout, Fold, Rescale, Sample, SectionBlur, SectionShifts, Size

PUBLISHED = ("intensity", "noise", "blur", "mask", "misalign")


def flat(size: Size, value: float, kind: type = np.float32) -> Sample:
    return Sample(np.full((1, *size), value, kind), np.ones(size, np.int32))


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_of_one_size_are_cut_out_anywhere(kind: type) -> None:
    """Few in a large patch, so that most do not touch."""
    size, rng = (12, 30, 40), np.random.default_rng(0)
    cutout = Cutout(count=(1, 3), depth=(2, 3), side=(4, 6), fill=0.0, p=1)
    numbers, depths, sides, starts = Counter(), Counter(), Counter(), []
    for _ in range(600):
        grey = flat(size, 1 if kind is np.float32 else 255, kind)
        image = cutout(grey, size, rng).image[0]
        boxes = ndimage.find_objects(ndimage.label(image == 0, np.ones((3, 3, 3)))[0])
        sizes = {tuple(part.stop - part.start for part in box) for box in boxes}
        holes = sum(np.prod([part.stop - part.start for part in box]) for box in boxes)
        if len(sizes) > 1 or holes != np.count_nonzero(image == 0):
            continue  # Some lie over each other.
        ((depth, height, width),) = sizes
        if (depth, height) not in {(d, s) for d in (2, 3) for s in (4, 5, 6)}:
            continue
        assert height == width and set(np.unique(image)) == {0, image.max()}
        numbers[len(boxes)] += 1
        if len(boxes) == 1:
            depths[depth] += 1
            sides[height] += 1
            box = boxes[0]
            spare = (size[0] - depth, size[1] - height, size[2] - width)
            starts.append([part.start / most for part, most in zip(box, spare, strict=True)])
    assert sum(numbers.values()) > 480 and set(numbers) == {1, 2, 3}
    assert_alike(depths, {2, 3})
    assert_alike(sides, {4, 5, 6})
    # From one face to the other, and in the middle on average: five standard errors.
    assert np.min(starts) == 0 and np.max(starts) == 1
    assert np.abs(np.mean(starts, axis=0) - 0.5).max() < 5 * 0.33 / np.sqrt(len(starts))


def test_a_box_larger_than_the_patch_is_as_large_as_that() -> None:
    cutout = Cutout(depth=(5, 10), side=(10, 20), fill=0.25, p=1)
    image = cutout(flat((3, 8, 8), 1.0), (3, 8, 8), np.random.default_rng(0)).image
    np.testing.assert_array_equal(image, 0.25)


def kernel(width: int, sigma: float) -> np.ndarray:
    at = np.arange(width) - width // 2
    weights = np.exp(-0.5 * (at / sigma) ** 2)
    return weights / weights.sum()


@pytest.mark.parametrize("width", [1, 3, 5, 9])
def test_blur_is_a_gaussian_cut_off_at_its_width(width: int) -> None:
    blur = SectionBlur(sigma=(1.3, 1.3), widths=(width,), p=1)
    for before, after in changes(blur, 5, kind=np.float32, size=(3, 20, 24)):
        exact = before.astype(np.float64)
        for axis in (1, 2):
            weights = kernel(width, 1.3)
            total = ndimage.correlate1d(np.ones_like(exact), weights, axis, mode="constant")
            exact = ndimage.correlate1d(exact, weights, axis, mode="constant") / total
        np.testing.assert_allclose(after, exact, atol=1e-5)


def test_every_section_is_blurred_its_own_way() -> None:
    """A single bright pixel becomes the square of the kernel."""
    size, rng = (18, 19, 19), np.random.default_rng(2)
    blur = SectionBlur(sigma=(0.5, 2.0), widths=(3, 5, 7, 9), p=1)
    widths, sigmas = Counter(), []
    for _ in range(50):
        sample = flat(size, 0.0)
        sample.image[:, :, 9, 9] = 1
        for section in blur(sample, size, rng).image[0]:
            row = section[9]
            # Of narrow ones the far weights vanish.
            sigma = np.sqrt(-0.5 / np.log(row[10] / row[9]))
            sigmas.append(sigma)
            if sigma > 0.9:
                widths[int(np.count_nonzero(row))] += 1
            at = kernel(int(np.count_nonzero(row)), sigma)
            np.testing.assert_allclose(section.sum(), 1, rtol=1e-4)
            np.testing.assert_allclose(row[row > 0] / row.sum(), at, atol=1e-4)
    assert_alike(widths, {3, 5, 7, 9})
    assert stats.kstest(sigmas, "uniform", (0.5, 1.5)).pvalue > 1e-3


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("move_labels", [False, True])
def test_sections_are_hit_by_chance_and_the_first_never(follow: bool, move_labels: bool) -> None:
    size: Size = (6, 3, 4)
    transform = SectionShifts(displacement=2, rate=0.2, follow=follow, move_labels=move_labels, p=1)
    crop, rng = read_for(transform, size), np.random.default_rng(3)
    labels = np.arange(1, np.prod(crop) + 1, dtype=np.int32).reshape(crop)
    image = labels[np.newaxis].astype(np.float32) / np.float32(2**20)
    hits, shifts, cuts, count = np.zeros(6, int), Counter(), Counter(), 2000
    for _ in range(count):
        found = transform(Sample(image, labels), size, rng)
        seen = np.rint(found.image[0] * 2**20).astype(np.int32)
        stay = labels[:, 2:-2, 2:-2]
        np.testing.assert_array_equal(found.labels, seen if move_labels else stay)
        places = np.array(np.unravel_index(seen - 1, crop)) - np.indices(size)
        assert (places == places[:, :, :1, :1]).all() and not places[0].any()
        steps = places[1:, :, 0, 0].T - 2
        assert np.abs(steps).max() <= 2
        moved = steps.any(axis=1)
        hits += moved
        cut = int(moved.argmax())
        cuts[cut] += 1
        if follow:
            assert moved[cut:].all() or cut == 0
            assert (steps[cut:] == steps[cut]).all()
            if cut:
                shifts[tuple(steps[cut].tolist())] += 1
        else:
            shifts.update(tuple(step) for step in steps[moved].tolist())
    assert hits[0] == 0
    assert_alike(shifts, {(y, x) for y in range(-2, 3) for x in range(-2, 3)} - {(0, 0)})
    if follow:
        expected = [0.8**5, *(0.2 * 0.8**before for before in range(5))]
        observed = [cuts[cut] for cut in range(6)]
        assert stats.chisquare(observed, count * np.array(expected)).pvalue > 1e-4
    else:
        assert all(stats.binomtest(int(hit), count, 0.2).pvalue > 1e-4 for hit in hits[1:])


def test_one_factor_magnifies_all_sections_about_the_centre() -> None:
    rescale, size, logarithms = Rescale(factor=(0.5, 4.0), p=1), (3, 7, 9), []
    crop = read_for(rescale, size)
    assert crop == (3, 7 + 2 * 4, 9 + 2 * 5)
    places = np.indices(crop, np.float32)[1:] / np.float32(64)
    middle = (np.array(crop[1:]) - 1) / 2
    rng = np.random.default_rng(4)
    for _ in range(300):
        sample = rescale(Sample(places, numbered(crop).labels), size, rng)
        rows, columns = (
            64 * there.astype(np.float64) - at
            for there, at in zip(sample.image, middle, strict=True)
        )
        step = rows[0, 1, 0] - rows[0, 0, 0]
        y, x = (np.arange(n) - (n - 1) / 2 for n in size[1:])
        np.testing.assert_allclose(rows, np.broadcast_to(step * y[:, None], size), atol=1e-4)
        np.testing.assert_allclose(columns, np.broadcast_to(step * x, size), atol=1e-4)
        logarithms.append(np.log2(1 / step))
    assert stats.kstest(logarithms, "uniform", (-1, 3)).pvalue > 1e-3


def folded(transform: Fold, size: Size, seed: int) -> list[np.ndarray]:
    """Of each folded section by how much (2, Y, X) each pixel's tissue is from where it should."""
    crop = read_for(transform, size)
    places = np.indices(crop, np.float32)[1:] / np.float32(256)
    sample = transform(Sample(places, np.ones(crop, np.int32)), size, np.random.default_rng(seed))
    around = (np.subtract(crop, size) // 2)[1:].reshape(2, 1, 1, 1)
    steps = 256 * sample.image.astype(np.float64) - np.indices(size)[1:] - around
    return [steps[:, z] for z in range(size[0]) if np.abs(steps[:, z]).max() > 1e-2]


def test_tissue_is_drawn_to_the_fold_from_both_sides() -> None:
    transform = Fold(sections=(1, 3), pull=(3.0, 3.0), reach=10.0, width=(0.0, 0.0), p=1)
    size: Size = (5, 24, 30)
    numbers, angles = Counter(), []
    for seed in range(200):
        sections = folded(transform, size, seed)
        numbers[len(sections)] += 1
        for steps in sections:
            length = np.hypot(*steps)
            far = np.unravel_index(length.argmax(), length.shape)
            across = steps[:, *far] / length[far]
            angles.append(np.arctan2(*across) % np.pi)
            # One direction, and how strong says how far the line is: that grows by one a pixel.
            side = np.tensordot(across, steps, (0, 0))
            np.testing.assert_allclose(side[np.newaxis] * across[:, None, None], steps, atol=1e-3)
            distance = np.sign(side) * 10 * np.log(3 / np.abs(np.where(side == 0, 3, side)))
            along = np.tensordot(across, np.indices(size[1:]), (0, 0))
            assert np.ptp(distance - along) < 0.02
    assert_alike(numbers, {1, 2, 3})
    assert stats.kstest(angles, "uniform", (0, np.pi)).pvalue > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_band_of_a_fold_is_dark_and_as_wide_as_is_drawn(kind: type) -> None:
    transform = Fold(sections=(2, 2), pull=(0, 0), width=(3.0, 9.0), fill=(0.1, 0.2), p=1)
    size: Size = (4, 40, 40)
    crop, rng, widths = read_for(transform, size), np.random.default_rng(5), []
    level = 255 if kind is np.uint8 else 1
    for _ in range(150):
        image = np.full((2, *crop), level, kind)
        found = transform(Sample(image, np.ones(crop, np.int32)), size, rng).image
        np.testing.assert_array_equal(found[0], found[1])
        dark = found[0] < level
        assert np.count_nonzero(dark.any(axis=(1, 2))) <= 2
        for section, mask in zip(found[0], dark, strict=True):
            if np.count_nonzero(mask) < 60:
                continue
            (value,) = np.unique(section[mask])
            assert 0.1 - 3e-3 <= value / level <= 0.2 + 3e-3
            y, x = np.nonzero(mask)
            # Across a band, places are uniform: their variance is a twelfth of its square.
            widths.append(np.sqrt(12 * np.linalg.eigvalsh(np.cov(y, x))[0]))
    assert 2.5 < np.quantile(widths, 0.03) < 4 and 8 < np.quantile(widths, 0.97) < 9.5


def test_what_is_published_stands_in_the_choice() -> None:
    student = read_yaml(conf_folder() / "perturb" / "ssns_ws.yaml")["student"]
    found = student["transforms"]
    # One of the five is drawn, all alike.
    assert student["p"] == 1 and [found[name]["p"] for name in PUBLISHED] == [1.0] * 5
    assert {name for name, weight in student["weights"].items() if weight == 1} == {*PUBLISHED}
    assert sum(student["weights"].values()) == 5
    assert found["intensity"]["weights"] == {"section": 0.75, "volume": 0.25}
    for scope, node in found["intensity"]["transforms"].items():
        assert node["scope"] == scope and node["gamma"] == [0.5, 2.0]
        assert node["gain"] == [0.95, 1.05] and node["shift"] == [-0.05, 0.05]
    assert found["noise"]["sigma"] == [0.01, 0.2]
    assert found["blur"]["widths"] == [3, 5, 7, 9] and found["blur"]["sigma"] == [0.0, 2.0]
    assert found["misalign"]["weights"] == {"slip": 0.5, "translation": 0.5}
    slip, translation = found["misalign"]["transforms"].values()
    assert (slip.pop("follow"), translation.pop("follow")) == (False, True)
    assert slip == translation and (slip["displacement"], slip["rate"]) == (17, 0.2)
