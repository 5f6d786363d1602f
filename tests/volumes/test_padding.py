import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.volumes import from_array, read_padded

PAD_MODES = {"reflect": "reflect", "replicate": "edge", "constant": "constant"}


@st.composite
def cases(draw):
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    start = [draw(st.integers(-15, 15)) for _ in shape]
    stop = [a + draw(st.integers(1, 20)) for a in start]
    return shape, start, stop


@settings(deadline=None, max_examples=200)
@given(case=cases(), mode=st.sampled_from(sorted(PAD_MODES)), channels=st.sampled_from([0, 2]))
def test_padding_is_that_of_numpy(case, mode, channels):
    shape, start, stop = case
    array = np.random.default_rng(1).integers(1, 255, (2, *shape), np.uint8)
    volume = from_array(array, axes="czyx") if channels else from_array(array[0])
    array = array if channels else array[0]
    before = [max(0, -a) for a in start]
    after = [max(0, b - size) for b, size in zip(stop, shape, strict=True)]
    widths = [(0, 0)] * (array.ndim - 3) + list(zip(before, after, strict=True))
    padded = np.pad(array, widths, mode=PAD_MODES[mode])
    region = [slice(a + low, b + low) for a, b, low in zip(start, stop, before, strict=True)]
    found = read_padded(volume, start, stop, mode=mode)
    np.testing.assert_array_equal(found, padded[(..., *region)])
    assert found.dtype == np.uint8


class Spy:
    def __init__(self, array):
        self.array, self.shape, self.dtype, self.read = array, array.shape, array.dtype, []

    def __getitem__(self, region):
        self.read.append(tuple((part.start, part.stop) for part in region))
        return self.array[region].copy()


@pytest.mark.parametrize(
    ("mode", "last"), [("reflect", (0, 5)), ("replicate", (0, 5)), ("constant", (0, 5))]
)
def test_only_the_voxels_needed_are_read(mode, last):
    spy = Spy(np.zeros((100, 8, 8), np.uint8))
    read_padded(from_array(spy), (-3, 0, 2), (5, 8, 4), mode=mode)
    assert spy.read == [(last, (0, 8), (2, 4))]


def test_an_unknown_mode_is_refused():
    volume = from_array(np.zeros((3, 3, 3)))
    with pytest.raises(UserError, match="unknown padding mode 'reflekt'.*did you mean 'reflect'"):
        read_padded(volume, (0, 0, 0), (4, 3, 3), mode="reflekt")


def test_an_empty_region_is_an_error():
    with pytest.raises(ValueError, match="is empty"):
        read_padded(from_array(np.zeros((3, 3, 3))), (0, 2, 0), (1, 2, 1), mode="constant")
