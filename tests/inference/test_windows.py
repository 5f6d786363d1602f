import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emseg.inference.settings import Settings
from emseg.inference.windows import window_grid, window_starts

axis_cases = {
    "size": st.integers(1, 40),
    "window": st.integers(1, 20),
    "overlap": st.floats(0, 0.95),
    "pad": st.integers(0, 15),
    "snap": st.booleans(),
}


@given(**axis_cases)
def test_every_voxel_lies_in_a_window_and_every_window_in_the_volume(
    size, window, overlap, pad, snap
):
    starts = window_starts(size, window, overlap, pad, snap)
    covered = np.zeros(size, bool)
    for start in starts:
        own = covered[max(0, start) : max(0, start + window)]
        assert own.size > 0
        own[:] = True
    assert covered.all()
    assert list(starts) == sorted(set(starts))


@given(**axis_cases)
def test_snapped_windows_end_at_the_padded_edge(size, window, overlap, pad, snap):
    starts = window_starts(size, window, overlap, pad, snap_to_edge=True)
    if size + 2 * pad < window:
        assert starts == (-pad,)
    else:
        assert starts[-1] + window <= size + pad
        if pad < window:
            assert starts[-1] + window == size + pad


def test_snapped_starts_are_those_of_banis():
    assert window_starts(300, 128, 0.5, 0, snap_to_edge=True) == (0, 64, 128, 172)
    assert window_starts(256, 128, 0.5, 0, snap_to_edge=True) == (0, 64, 128)
    assert len(window_starts(3000, 128, 0.5, 0, snap_to_edge=True)) == 46
    assert len(window_starts(1350, 128, 0.25, 0, snap_to_edge=True)) == 14


def test_unsnapped_starts_keep_the_step_and_stick_out():
    assert window_starts(300, 128, 0.5, 0) == (0, 64, 128, 192)
    assert window_starts(100, 16, 0.5, 8) == (-8, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96)


def test_windows_in_the_padding_alone_are_left_out():
    assert window_starts(10, 4, 0, 8) == (0, 4, 8)


def test_a_batch_holds_one_row_in_lexicographic_order():
    settings = Settings(window_size=(4, 4, 4), overlap=(0.5, 0, 0), offsets=((0, 0, 0),))
    grid = window_grid([8, 8, 12], settings)
    assert grid.batches(1, 4) == [
        [(1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 1, 0)],
        [(1, 1, 1), (1, 1, 2)],
    ]
    assert grid.corner((1, 1, 2)) == (2, 4, 8)
