from collections import Counter

import numpy as np
import pytest
from scipy import stats

from data.drawn_samples import KINDS, numbered, painted, read_for
from emseg.data.augment import LostSections, Misalignment, Size, Slip, Transform


def moved(
    transform: Transform, size: Size, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each section the one it was, the place it was at from the middle, and its image."""
    crop = read_for(transform, size)
    sample = transform(numbered(crop), size, rng)
    places = np.array(np.unravel_index(sample.labels - 1, crop))
    steps = places - np.indices(size)
    steps -= (np.subtract(crop, size) // 2).reshape(3, 1, 1, 1)
    # A section moves as a whole.
    assert (steps == steps[:, :, :1, :1]).all()
    return places[0, :, 0, 0], steps[1:, :, 0, 0].T, sample.image


def test_misalignment_is_one_cut_and_one_shift_all_alike() -> None:
    rng, transform = np.random.default_rng(0), Misalignment(displacement=2, p=1.0)
    cuts, shifts = Counter(), Counter()
    for _ in range(2400):
        sections, steps, _ = moved(transform, (5, 3, 4), rng)
        assert sections.tolist() == [0, 1, 2, 3, 4]
        cut = int(np.flatnonzero(steps.any(axis=1))[0])
        assert (steps[:cut] == 0).all() and (steps[cut:] == steps[cut]).all()
        cuts[cut] += 1
        shifts[tuple(steps[cut].tolist())] += 1
    assert set(cuts) == {1, 2, 3, 4} and (0, 0) not in shifts
    assert set(shifts) == {(y, x) for y in range(-2, 3) for x in range(-2, 3)} - {(0, 0)}
    for counts in (cuts, shifts):
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_missing_sections_hold_the_fill_and_lie_in_between(kind: type) -> None:
    transform = Misalignment(displacement=9, missing=(0, 2), fill=(0.2, 0.8), p=1.0)
    size, rng, missed = (6, 3, 3), np.random.default_rng(1), Counter()
    crop = read_for(transform, size)
    for _ in range(300):
        sample = transform(numbered(crop, kind), size, rng)
        steps = np.array(np.unravel_index(sample.labels[:, 0, 0] - 1, crop))[1:].T - 9
        whole = (sample.image == painted(sample.labels, kind))[0].all(axis=(1, 2))
        at = np.flatnonzero(~whole)
        missed[len(at)] += 1
        cut = at[0] if len(at) else np.flatnonzero(steps.any(axis=1))[0]
        assert at.tolist() == list(range(cut, cut + len(at)))
        assert cut >= 1 and cut + len(at) <= 5
        shift = steps[-1]
        assert (steps[:cut] == 0).all() and (steps[cut + len(at) :] == shift).all()
        for number, z in enumerate(at, 1):
            np.testing.assert_array_equal(steps[z], np.rint(shift * number / (len(at) + 1)))
            values = np.unique(sample.image[0, z])
            low, high = (51, 204) if kind is np.uint8 else (0.2, 0.8)
            assert len(values) == 1 and low <= values[0] <= high
    assert all(abs(missed[count] - 100) < 45 for count in (0, 1, 2))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_missing_sections_leave_one_on_each_side(depth: int) -> None:
    transform = Misalignment(displacement=1, missing=(3, 3), fill=(0.0, 0.0), p=1.0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        sample = transform(numbered(read_for(transform, (depth, 2, 2))), (depth, 2, 2), rng)
        shown = (sample.image[0] == painted(sample.labels)[0]).any(axis=(1, 2))
        assert shown[0] and shown[-1]


@pytest.mark.parametrize("move_labels", [False, True])
def test_slip_shifts_single_sections(move_labels: bool) -> None:
    transform = Slip(displacement=1, sections=(1, 3), move_labels=move_labels, p=1.0)
    size, rng = (5, 3, 3), np.random.default_rng(2)
    numbers, shifts, places = Counter(), Counter(), Counter()
    crop = read_for(transform, size)
    source = numbered(crop)
    seen = np.lib.stride_tricks.sliding_window_view(source.image[0], (1, 3, 3))
    for _ in range(1600):
        sample = transform(source, size, rng)
        middle = source.centre(size)
        slipped = (sample.image != middle.image)[0].any(axis=(1, 2))
        numbers[int(slipped.sum())] += 1
        for z in np.flatnonzero(slipped):
            (found,) = np.argwhere((seen[z, :, :, 0] == sample.image[0, z]).all(axis=(2, 3)))
            shifts[tuple((found - 1).tolist())] += 1
            places[int(z)] += 1
        if move_labels:
            np.testing.assert_array_equal(sample.image, painted(sample.labels))
        else:
            np.testing.assert_array_equal(sample.labels, middle.labels)
    assert set(numbers) == {1, 2, 3} and len(shifts) == 8 and len(places) == 5
    for counts in (numbers, shifts, places):
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4


@pytest.mark.parametrize("sections", [(1, 2), (1, 3), (2, 4)])
def test_lost_sections_close_up(sections: tuple[int, int]) -> None:
    transform, depth = LostSections(sections=sections, p=1.0), 5
    rng, numbers, cuts = np.random.default_rng(3), Counter(), Counter()
    assert transform.margin((depth, 2, 2)) == ((sections[1] + 1) // 2, 0, 0)
    for _ in range(600):
        kept, steps, _ = moved(transform, (depth, 2, 2), rng)
        assert not steps.any()
        (gap,) = np.flatnonzero(np.diff(kept) != 1)
        numbers[int(kept[gap + 1] - kept[gap] - 1)] += 1
        cuts[int(gap)] += 1
    assert set(numbers) == set(range(sections[0], sections[1] + 1)) and set(cuts) == {0, 1, 2, 3}
    for counts in (numbers, cuts):
        assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_a_single_section_has_nothing_to_lose_or_to_be_misaligned_with() -> None:
    rng = np.random.default_rng(0)
    for transform in (LostSections(p=1.0), Misalignment(displacement=2, rotation=5.0, p=1.0)):
        source = numbered(read_for(transform, (1, 3, 3)))
        found = transform(source, (1, 3, 3), rng)
        np.testing.assert_array_equal(found.image, painted(found.labels))
        assert (np.diff(found.labels, axis=2) == 1).all()


def test_misaligned_sections_are_turned_about_where_they_are_shifted_to() -> None:
    """The turn's own margin is there wherever the shift goes, and sections before stay."""
    transform, size = Misalignment(displacement=4, rotation=30.0, p=1.0), (3, 9, 9)
    crop = read_for(transform, size)
    shifts, angles = [], []
    for seed in range(200):
        sample = transform(numbered(crop), size, np.random.default_rng(seed))
        z, y, x = np.unravel_index(sample.labels - 1, crop)
        assert (z == np.arange(3)[:, None, None]).all()
        np.testing.assert_array_equal(y[0] - y[0, 0, 0], np.indices((9, 9))[0])
        # Labels are of whole voxels: the mean displacement is the shift, and a line shows the turn.
        shifts.append([y[2].mean() - crop[1] // 2, x[2].mean() - crop[2] // 2])
        angles.append(np.degrees(np.arctan2(y[2, :, -1] - y[2, :, 0], x[2, :, -1] - x[2, :, 0])))
    assert np.abs(shifts).max() < 4.3 and np.abs(np.std(shifts, axis=0) - 2.58).max() < 0.4
    turned = np.mean(angles, axis=1)
    assert np.abs(turned).max() < 32 and abs(turned.std() - 30 / np.sqrt(3)) < 3
