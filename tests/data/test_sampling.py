import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.data.sampling import CropPositions, resolve_range, sample_generator
from emseg.errors import UserError


@pytest.mark.parametrize(
    ("bounds", "size", "voxels"),
    [
        ((0, 160), 250, (0, 160)),
        ([200, 250], 250, (200, 250)),
        ((0.0, 0.8), 100, (0, 80)),
        ((0, 0.5), 7, (0, 4)),
        ((0.5, 1.0), 7, (4, 7)),
        ((0, 1), 100, (0, 1)),
        ((0.0, 1), 100, (0, 100)),
    ],
)
def test_range_is_voxels_or_fractions(
    bounds: tuple[float, float], size: int, voxels: tuple[int, int]
) -> None:
    assert resolve_range(bounds, size) == voxels


@settings(deadline=None, max_examples=50)
@given(size=st.integers(2, 2000), cut=st.floats(0.001, 0.999))
def test_neighbouring_fractions_share_the_axis_out(size: int, cut: float) -> None:
    middle = np.floor(cut * size + 0.5)
    if 0 < middle < size:
        assert resolve_range((0.0, cut), size) == (0, middle)
        assert resolve_range((cut, 1.0), size) == (middle, size)


@pytest.mark.parametrize(
    "bounds",
    [
        (0, 251),
        (-1, 5),
        (5, 5),
        (9, 3),
        (0.0, 1.5),
        (0.5, 0.5),
        (0.0, 160),
        (0.1, 0.1001),
        (1, 2, 3),
    ],
)
def test_range_without_voxels_or_beyond_the_axis_is_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="range"):
        resolve_range(bounds, 250)


def test_samples_have_random_numbers_of_their_own() -> None:
    def numbers(**key: int) -> tuple[float, ...]:
        return tuple(sample_generator(**key).random(4))

    keys = [
        {"seed": s, "namespace": n, "index": i} for s, n, i in itertools.product(*[range(4)] * 3)
    ]
    assert len({numbers(**key) for key in keys}) == len(keys)
    assert numbers(**keys[5]) == numbers(**keys[5])


def draws(positions: CropPositions, count: int) -> list[tuple[int, tuple[int, ...]]]:
    rng = np.random.default_rng(0)
    return [positions.draw(rng) for _ in range(count)]


def test_every_valid_corner_is_drawn_alike_and_no_other() -> None:
    positions = CropPositions([(4, 6, 3)], crop=(3, 4, 3))
    found = Counter(corner for _, corner in draws(positions, 3000))
    assert set(found) == set(itertools.product(range(2), range(3), range(1)))
    # Six corners, 500 draws each: five standard deviations are 102.
    assert all(abs(count - 500) < 102 for count in found.values())


@pytest.mark.parametrize(
    ("weights", "share"), [(None, 40 / (40 + 16)), ([3.0, 1.0], 0.75), ([1, 99], 0.01)]
)
def test_volumes_are_drawn_by_weight_or_by_number_of_positions(
    weights: list[float] | None, share: float
) -> None:
    positions = CropPositions([(10, 8, 8), (2, 8, 12)], crop=(1, 8, 5), weights=weights)
    count = 4000
    first = sum(volume == 0 for volume, _ in draws(positions, count))
    assert abs(first - count * share) < 5 * np.sqrt(count * share * (1 - share))


def test_short_axis_is_centred_in_the_crop() -> None:
    positions = CropPositions([(2, 9, 9)], crop=(7, 9, 8))
    assert {corner for _, corner in draws(positions, 50)} == {(-3, 0, 0), (-3, 0, 1)}
