import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from data.drawn_samples import KINDS, SIZE, assert_alike, changes
from emseg.data.augment import (
    DropSlices,
    Grayscale,
    MissingParts,
    MissingSections,
    OutOfFocus,
    ShiftSlices,
)


def rectangle(changed: np.ndarray) -> tuple[slice, slice]:
    """What bounds the changed pixels of a section."""
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_missing_sections_are_whole_or_one_side_of_a_line(kind: type) -> None:
    transform = MissingSections(sections=(1, 3), full=0.3, part=(0.25, 0.75), fill=(0.4, 0.6), p=1)
    numbers, sides, whole, fractions = Counter(), Counter(), 0, []
    for before, after in changes(transform, 400, kind=kind):
        missing = np.flatnonzero((before != after).any(axis=(1, 2)))
        numbers[len(missing)] += 1
        for z in missing:
            rows, columns = rectangle(before[z] != after[z])
            values = np.unique(after[z, rows, columns])
            assert len(values) == 1
            assert 0.4 - 1e-2 <= values[0] / (255 if kind is np.uint8 else 1) <= 0.6 + 1e-2
            full = (slice(0, 8), slice(0, 12))
            if (rows, columns) == full:
                whole += 1
                continue
            axis = 0 if columns == full[1] else 1
            assert (rows, columns)[1 - axis] == full[1 - axis]
            part, length = (rows, columns)[axis], full[axis].stop
            assert part.start == 0 or part.stop == length
            sides[axis, part.start == 0] += 1
            fractions.append((part.stop - part.start) / length)
    total = sum(number * times for number, times in numbers.items())
    assert_alike(numbers, {1, 2, 3})
    assert_alike(sides, {(0, True), (0, False), (1, True), (1, False)})
    assert stats.binomtest(whole, total, 0.3).pvalue > 1e-4
    assert min(fractions) == 0.25 and max(fractions) == 0.75


@pytest.mark.parametrize("kind", KINDS)
def test_missing_parts_are_rectangles_inside(kind: type) -> None:
    transform = MissingParts(sections=(1, 2), hole=(0.25, 0.5), fill=(0.0, 0.0), p=1)
    numbers, sides = Counter(), []
    for before, after in changes(transform, 400, kind=kind):
        holed = np.flatnonzero((before != after).any(axis=(1, 2)))
        numbers[len(holed)] += 1
        for z in holed:
            rows, columns = rectangle((before[z] != after[z]) | (after[z] == 0))
            inside = after[z, rows, columns]
            if (before[z] == 0).any():
                continue  # A pixel that was black anyway may lie beside the hole.
            assert (inside == 0).all()
            sides.append(inside.shape)
    assert_alike(numbers, {1, 2})
    assert set(np.array(sides)[:, 0]) <= {1, 2, 3, 4} and np.array(sides)[:, 0].max() == 4
    assert set(np.array(sides)[:, 1]) <= {2, 3, 4, 5, 6} and np.array(sides)[:, 1].max() == 6


def blurred(section: np.ndarray, sigma: float) -> np.ndarray:
    """By two matrices of weights that sum to 1."""
    out = section.astype(np.float64)
    for axis in (0, 1):
        apart = np.subtract.outer(*[np.arange(section.shape[axis])] * 2)
        weights = np.exp(-0.5 * (apart / sigma) ** 2) * (np.abs(apart) <= math.ceil(3 * sigma))
        weights /= weights.sum(axis=1, keepdims=True)
        out = np.moveaxis(np.tensordot(weights, out, (1, axis)), 0, axis)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_sections_or_quarters_are_out_of_focus(kind: type) -> None:
    transform = OutOfFocus(sections=(1, 4), sigma=(1.2, 1.2), full=0.4, p=1)
    whole = total = 0
    tolerance = 0.5 + 1e-3 if kind is np.uint8 else 1e-5
    for before, after in changes(transform, 200, kind=kind):
        for z in np.flatnonzero((before != after).any(axis=(1, 2))):
            corners = [
                _from_corner(rectangle(before[z] != after[z])[axis], axis) for axis in (0, 1)
            ]
            fits = [
                (rows, columns)
                for rows in corners[0]
                for columns in corners[1]
                if np.abs(after[z, rows, columns] - blurred(before[z, rows, columns], 1.2)).max()
                <= tolerance
            ]
            assert fits
            total += 1
            whole += (slice(0, 8), slice(0, 12)) in fits
    # Of the quarters some are empty, and few are all there is.
    share = (0.4 + 0.6 / (9 * 13)) / (0.4 + 0.6 * 8 / 9 * 12 / 13)
    assert stats.binomtest(whole, total, share).pvalue > 1e-4


def _from_corner(changed: slice, axis: int) -> list[slice]:
    """Parts from one end of the axis that hold what changed, by chance a little less."""
    length = SIZE[1 + axis]
    lower = [slice(0, stop) for stop in range(changed.stop, min(changed.stop + 2, length) + 1)]
    upper = [slice(start, length) for start in range(max(0, changed.start - 2), changed.start + 1)]
    return lower + upper


def curve_of(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Gain and shift, where nothing saturated."""
    inside = (after > 0) & (after < 1)
    gain, shift = np.polyfit(before[inside].ravel(), after[inside].ravel(), 1)
    np.testing.assert_allclose(after[inside], gain * before[inside] + shift, atol=1e-5)
    return gain, shift


def test_grayscale_of_the_volume_is_one_curve() -> None:
    transform = Grayscale(gain=(0.5, 1.5), shift=(-0.2, 0.2), gamma=(1.0, 1.0), scope="volume", p=1)
    curves = [curve_of(*pair) for pair in changes(transform, 200, kind=np.float32)]
    gains, shifts = np.array(curves).T
    assert stats.kstest(gains, "uniform", (0.5, 1.0)).pvalue > 1e-3
    assert stats.kstest(shifts, "uniform", (-0.2, 0.4)).pvalue > 1e-3


def test_grayscale_of_sections_is_a_curve_each() -> None:
    transform = Grayscale(gain=(0.5, 1.5), shift=(0, 0), gamma=(1.0, 1.0), scope="section", p=1)
    gains = [
        [curve_of(a, b)[0] for a, b in zip(before, after, strict=True)]
        for before, after in changes(transform, 60, kind=np.float32)
    ]
    assert stats.kstest(np.ravel(gains), "uniform", (0.5, 1.0)).pvalue > 1e-3
    assert abs(np.corrcoef(np.array(gains)[:, 0], np.array(gains)[:, 1])[0, 1]) < 0.5


def test_mixed_grayscale_is_of_sections_and_of_quarters() -> None:
    transform = Grayscale(gain=(0.5, 0.9), shift=(0, 0), gamma=(1.0, 1.0), scope="mixed", p=1)
    found = Counter()
    for before, after in changes(transform, 150, kind=np.float32):
        for a, b in zip(before, after, strict=True):
            gains = b / np.maximum(a, 1e-9)
            gains[a == 0] = 1
            corners = np.round([gains[0, 0], gains[0, -1], gains[-1, 0], gains[-1, -1]], 4)
            found["whole" if len(set(corners)) == 1 and corners[0] != 1 else "parts"] += 1
            assert len(np.unique(np.round(gains[a > 0.05], 4))) <= 4
    # A section is changed as a whole in half of the cases, or by a quarter that fills it.
    assert stats.binomtest(found["whole"], 900, 0.5 + 0.5 * 2 / (9 * 13)).pvalue > 1e-4


def test_gray_saturates_before_the_power() -> None:
    transform = Grayscale(
        gain=(2.0, 2.0), shift=(-0.5, -0.5), gamma=(0.5, 0.5), scope="volume", p=1
    )
    for before, after in changes(transform, 3, kind=np.float32):
        np.testing.assert_allclose(after, np.sqrt(np.clip(2 * before - 0.5, 0, 1)), atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_slices_drop_at_their_rate(axis: int, kind: type) -> None:
    transform, lost = DropSlices(axes=(axis,), rate=0.3, fill=0.2, p=1), 0
    for before, after in changes(transform, 100, kind=kind):
        before, after = np.moveaxis(before, axis, 0), np.moveaxis(after, axis, 0)
        dropped = (before != after).any(axis=(1, 2))
        assert (after[dropped] == (51 if kind is np.uint8 else np.float32(0.2))).all()
        lost += int(dropped.sum())
    assert stats.binomtest(lost, 100 * SIZE[axis], 0.3).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_rolled_by_no_more_than_the_displacement(kind: type) -> None:
    transform, axes, shifts, still = ShiftSlices(rate=0.5, displacement=1, p=1), Counter(), [], 0
    rolls = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    for before, after in changes(transform, 120, kind=kind, size=(5, 5, 5)):
        for axis in range(3):
            slices = zip(np.moveaxis(before, axis, 0), np.moveaxis(after, axis, 0), strict=True)
            fits = [
                [roll for roll in rolls if np.array_equal(np.roll(a, roll, (0, 1)), b)]
                for a, b in slices
            ]
            if all(len(fit) == 1 for fit in fits):
                axes[axis] += 1
                shifts += [fit[0] for fit in fits]
                break
        else:
            raise AssertionError("no slices of one axis are rolled")
    still = shifts.count((0, 0))
    counts = Counter(shift for shift in shifts if shift != (0, 0))
    assert_alike(counts, set(rolls) - {(0, 0)})
    assert stats.binomtest(still, len(shifts), 0.5 + 0.5 / 9).pvalue > 1e-4
    assert all(axes[axis] > 20 for axis in range(3))
