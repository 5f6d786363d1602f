import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.data.foreground import Foreground
from emseg.errors import UserError

LABELS = arrays.arrays(
    np.int32,
    st.tuples(*[st.integers(1, 6)] * 3),
    elements=st.sampled_from([-1, 0, 1, 7, 2**31 - 1]),
)


@given(LABELS)
def test_every_object_is_foreground_and_the_unlabelled_is_masked(labels):
    target, mask = Foreground(name="cleft")(labels)
    assert (target.dtype, mask.dtype) == (np.uint8, np.bool_)
    assert target.shape == mask.shape == (1, *labels.shape)
    for value, one, known in zip(labels.flat, target.flat, mask.flat, strict=True):
        assert known == (value != -1)
        assert one == (value in (1, 7, 2**31 - 1))


def test_the_channel_has_its_name():
    target = Foreground(name="cleft")
    assert (target.names, target.out_channels) == (("cleft",), 1)
    with pytest.raises(UserError, match="name=a cleft must be a name of letters"):
        Foreground(name="a cleft")
