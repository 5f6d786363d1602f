"""Intensities in the wrong range: a small part of the type's, or other ones than the training's."""

import numpy as np
import pytest

from emseg.data.intensity import intensities_of, small_part, together, unlike_trained
from emseg.volumes import Volume, from_array

RNG = np.random.default_rng(0)


def _volume(low: float, high: float, dtype: type) -> Volume:
    values = low + (high - low) * RNG.random((10, 20, 20))
    return from_array(values.astype(dtype), axes="zyx")


@pytest.mark.parametrize(
    ("low", "high", "dtype", "told"),
    [
        (20, 230, np.uint8, False),
        (60, 140, np.uint8, False),  # pale, as EM often is
        (100, 130, np.uint8, False),
        (0, 2, np.uint8, True),  # 0 and 1
        (118, 124, np.uint8, True),
        (0, 256, np.uint16, True),
        (0, 4096, np.uint16, True),
        (30000, 33000, np.uint16, True),
        (0, 65535, np.uint16, False),
        (0, 16384, np.uint16, False),
        (0, 60000, np.uint32, True),
        (0, 1, np.float32, False),
        (0, 1 / 255, np.float32, True),
    ],
)
def test_a_small_part_of_the_type(low: float, high: float, dtype: type, told: bool) -> None:
    line = small_part("raw.h5", intensities_of(_volume(low, high, dtype), None))
    assert (line is not None) == told
    if line:
        assert line.startswith("raw.h5 has intensities from ") and np.dtype(dtype).name in line
        assert "data.intensity_range or data.intensity_percentiles" in line


def test_hot_pixels_are_not_what_counts() -> None:
    values = RNG.integers(0, 256, (20, 40, 40)).astype(np.uint16)
    values[3, 3, 3] = 65535
    found = intensities_of(from_array(values, axes="zyx"), None)
    assert found.high <= 255 and small_part("raw.h5", found) is not None


@pytest.mark.parametrize(
    ("trained", "other", "given", "told"),
    [
        ((20, 230, np.uint8), (60, 150, np.uint8), None, False),
        ((20, 230, np.uint8), (0, 65535, np.uint16), None, False),
        ((20, 230, np.uint8), (0, 4096, np.uint16), None, True),
        ((20, 230, np.uint8), (0, 4096, np.uint16), (0, 4095), False),
        ((20, 230, np.uint8), (0, 4096, np.uint16), (0, 65535), True),
        ((0, 4096, np.uint16), (0, 4096, np.uint16), None, False),
        ((0, 4096, np.uint16), (0, 65535, np.uint16), None, True),
        ((20, 230, np.uint8), (0.1, 0.9, np.float32), None, False),
        ((20, 60, np.uint8), (150, 230, np.uint8), None, True),
        ((20, 230, np.uint8), (-2000, 2000, np.int16), (-2000, 2000), False),
    ],
)
def test_other_intensities_than_the_trainings(
    trained: tuple, other: tuple, given: tuple | None, told: bool
) -> None:
    facts = together([intensities_of(_volume(*trained), None)])
    line = unlike_trained("test.h5", intensities_of(_volume(*other), given), facts)
    assert (line is not None) == told
    if line:
        assert np.dtype(other[2]).name in line and np.dtype(trained[2]).name in line
        assert "data.intensity_range or data.intensity_percentiles" in line


def test_a_few_boxes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = from_array(np.zeros((100, 2000, 3), np.uint8), axes="zyx")
    read = []
    original = Volume.read
    monkeypatch.setattr(
        Volume, "read", lambda self, *bounds: read.append(bounds) or original(self, *bounds)
    )
    intensities_of(volume, None)
    assert len(read) == 8
    assert [start[0] for start, _ in read] == [0, 13, 27, 41, 54, 68, 82, 96]
    assert all(np.subtract(stop, start).tolist() == [4, 1024, 3] for start, stop in read)


def test_several_volumes_are_one_range() -> None:
    found = [intensities_of(_volume(a, b, np.uint8), None) for a, b in ((10, 20), (100, 200))]
    facts = together(found)
    assert facts["dtype"] == "uint8"
    assert facts["stored"] == [found[0].low, found[1].high]
    assert facts["seen"] == [found[0].seen[0], found[1].seen[1]]
