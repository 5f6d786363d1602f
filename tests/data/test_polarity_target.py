import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.polarity import Polarity
from emseg.errors import UserError
from emseg.volumes import from_array

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


def test_ids_must_reach_the_target_as_they_are_stored():
    labels = np.zeros((4, 8, 8), np.uint64)
    labels[:2] = 2**31 + 2
    image = from_array(np.zeros(labels.shape, np.uint8))
    choices = {"patch_size": (2, 4, 4), "seed": 0, "target": Polarity()}
    with pytest.raises(UserError, match="holds the label 2147483650: ids say what they are"):
        PatchDataset([LabelledVolume(image, from_array(labels))], **choices)
    labels[:2] = 2
    volume = LabelledVolume(image, from_array(labels))
    with pytest.raises(UserError, match="relabel_crops: true does not go with Polarity"):
        PatchDataset([volume], relabel_crops=True, **choices)
    assert not PatchDataset([volume], **choices)[0]["target"][0].any()
