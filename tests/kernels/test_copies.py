import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.kernels.copies import copy_planes, in_c_order


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 70) | st.integers(255, 260)] * 2),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32, np.float32, np.int64]),
    turns=st.integers(0, 3),
    flip=st.booleans(),
    leading=st.sampled_from([(1,), (3,), (2, 3)]),
    readonly=st.booleans(),
)
def test_copy_is_the_turned_array(shape, dtype, turns, flip, leading, readonly) -> None:
    array = np.arange(np.prod(leading + shape) % 251 + np.prod(leading + shape))
    array = array[: int(np.prod(leading + shape))].reshape(leading + shape).astype(dtype)
    array.flags.writeable = not readonly
    turned = np.rot90(array, turns, (-2, -1))
    turned = np.flip(turned, -1) if flip else turned
    copy = in_c_order(turned)
    assert copy.flags.c_contiguous and copy.flags.writeable and copy.dtype == dtype
    assert not np.shares_memory(copy, array)
    np.testing.assert_array_equal(copy, turned)


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_part_of_an_array_is_filled_from_any_order_of_axes(order) -> None:
    source = np.arange(4 * 5 * 6, dtype=np.int32).reshape(4, 5, 6).transpose(order)
    into = np.full((source.shape[0] + 2, *source.shape[1:]), -1, np.int32)
    copy_planes(source, into[1:-1])
    np.testing.assert_array_equal(into[1:-1], source)
    assert (into[[0, -1]] == -1).all()
