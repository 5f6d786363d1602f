import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.inference.windows import window_grid

axis_cases = {
    "size": st.integers(1, 40),
    "window": st.integers(1, 20),
    "overlap": st.floats(0, 0.95),
    "pad": st.integers(0, 15),
    "snap": st.booleans(),
}


def starts_of(size, window, overlap, *, pad=0, snap=False):
    grid = window_grid([size], window_size=[window], overlap=overlap, pad=[pad], snap_to_edge=snap)
    return grid.starts[0]


@settings(deadline=None)
@given(**axis_cases)
def test_every_voxel_lies_in_a_window_and_every_window_in_the_volume(
    size, window, overlap, pad, snap
):
    starts = starts_of(size, window, overlap, pad=pad, snap=snap)
    covered = np.zeros(size, bool)
    for start in starts:
        own = covered[max(0, start) : max(0, start + window)]
        assert own.size > 0
        own[:] = True
    assert covered.all()
    assert list(starts) == sorted(set(starts))


@settings(deadline=None)
@given(**axis_cases)
def test_snapped_windows_end_at_the_padded_edge(size, window, overlap, pad, snap):
    starts = starts_of(size, window, overlap, pad=pad, snap=True)
    if size + 2 * pad < window:
        assert starts == (-pad,)
    else:
        assert starts[-1] + window <= size + pad
        if pad < window:
            assert starts[-1] + window == size + pad


def test_snapped_starts_are_those_of_banis():
    assert starts_of(300, 128, 0.5, snap=True) == (0, 64, 128, 172)
    assert starts_of(256, 128, 0.5, snap=True) == (0, 64, 128)
    assert len(starts_of(3000, 128, 0.5, snap=True)) == 46
    assert len(starts_of(1350, 128, 0.25, snap=True)) == 14


def test_unsnapped_starts_keep_the_step_and_stick_out():
    assert starts_of(300, 128, 0.5) == (0, 64, 128, 192)
    assert starts_of(100, 16, 0.5, pad=8) == (-8, 0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96)


def test_windows_in_the_padding_alone_are_left_out():
    assert starts_of(10, 4, 0, pad=8) == (0, 4, 8)


def test_a_batch_holds_one_row_in_lexicographic_order():
    grid = window_grid([8, 8, 12], window_size=[4, 4, 4], overlap=(0.5, 0, 0))
    assert grid.batches(1, 4) == [
        [(1, 0, 0), (1, 0, 1), (1, 0, 2), (1, 1, 0)],
        [(1, 1, 1), (1, 1, 2)],
    ]
    assert grid.corner((1, 1, 2)) == (2, 4, 8)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"window_size": [4, 4]}, "window_size"),
        ({"window_size": [4, 0, 4]}, "window_size"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"overlap": [0.5, 0.5]}, "overlap"),
        ({"pad": [0, -1, 0]}, "pad"),
        ({"pad": [1]}, "pad"),
    ],
)
def test_what_makes_no_grid_is_refused_by_name(change, named):
    with pytest.raises(UserError, match=named):
        window_grid([8, 8, 8], **{"window_size": [4, 4, 4], **change})


def test_an_empty_volume_is_refused():
    with pytest.raises(UserError, match="empty"):
        window_grid([0, 8, 8], window_size=[4, 4, 4])
