from collections import Counter

import numpy as np
import pytest
from scipy import stats

from data.drawn_changes import SIZE, assert_alike, changes
from data.drawn_samples import KINDS
from emseg.data.augment import DropSlices, ShiftSlices


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
