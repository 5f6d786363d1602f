import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.kernels.marked_pixels import spread

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=100)
@given(
    marked=SHAPES.flatmap(lambda shape: arrays.arrays(np.bool_, shape)),
    reaches=st.lists(st.integers(0, 5), min_size=1, max_size=5),
)
def test_a_mark_spreads_in_its_section_as_far_as_told(marked, reaches):
    reaches.sort(reverse=True)
    expected = np.zeros_like(marked)
    for z, y, x in np.argwhere(marked):
        for rows, reach in enumerate(reaches):
            for row in {y - rows, y + rows} & {*range(marked.shape[1])}:
                expected[z, row, max(0, x - reach) : x + reach + 1] = True
    np.testing.assert_array_equal(spread(marked, np.array(reaches, np.int64)), expected)
