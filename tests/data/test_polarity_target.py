import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data.polarity import Polarity

LABELS = arrays(np.int32, (2, 3, 4), elements=st.integers(-1, 7))


@given(labels=LABELS)
def test_odd_is_pre_even_is_post_and_unlabelled_is_masked(labels):
    target = Polarity()
    values, mask = target(labels)
    assert (values.dtype, mask.dtype) == (np.uint8, np.bool_)
    assert values.shape == mask.shape == (target.out_channels, *labels.shape)
    assert target.names == ("pre", "post", "synapse")
    for at, label in np.ndenumerate(labels):
        assert mask[:, *at].tolist() == [label != -1] * 3
        if label != -1:
            pre, post = label in (1, 3, 5, 7), label in (2, 4, 6)
            assert values[:, *at].tolist() == [pre, post, pre or post]


def test_the_mask_is_the_callers_own():
    _, mask = Polarity()(np.ones((1, 2, 2), np.int32))
    mask[0] = False
    assert mask[1:].all()
