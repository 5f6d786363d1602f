import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from emseg.blocks.store import MemoryStore
from emseg.decoding.binary import Binary, binary
from emseg.errors import UserError
from emseg.volumes import from_array

# Values on both sides of thresholds, at them, and next to them in the dtype.
LEVELS = {
    "float32": [0.0, 0.5, np.nextafter(np.float32(0.5), np.float32(1)), 0.7, 1.0],
    "float16": [0.0, 0.5, 0.69970703125, 0.7001953125, 1.0],
    "uint8": [0, 127, 128, 178, 179, 255],
}
THRESHOLDS = st.sampled_from([-0.0, 0.0, 0.5, 128 / 255, 0.7, 1.0])
UNUSED = MemoryStore((1, 1, 1))


@st.composite
def predictions(draw):
    dtype = draw(st.sampled_from(sorted(LEVELS)))
    shape = (1, *draw(st.tuples(*[st.integers(1, 6)] * 3)))
    return np.array(LEVELS[dtype], dtype)[
        draw(arrays.arrays(np.int8, shape, elements=st.integers(0, 4)))
    ]


def expected(prediction, threshold):
    scale = np.float32(255 if prediction.dtype == np.uint8 else 1)
    return [np.float32(value) / scale > np.float32(threshold) for value in prediction[0].flat]


@settings(deadline=None)
@given(predictions(), THRESHOLDS)
def test_a_voxel_is_on_strictly_above_the_threshold(prediction, threshold):
    mask = binary(prediction, threshold=threshold)
    assert (mask.dtype, mask.shape) == (np.uint8, prediction.shape[1:])
    np.testing.assert_array_equal(mask.ravel(), expected(prediction, threshold))


@settings(deadline=None)
@given(predictions(), THRESHOLDS, st.tuples(*[st.integers(1, 6)] * 3))
def test_blocks_are_those_of_the_whole(prediction, threshold, block_shape):
    whole = np.full(prediction.shape[1:], 2, np.uint8)
    volume = from_array(prediction, axes="czyx")
    blocks = Binary(threshold=threshold).blocks(volume, store=UNUSED, block_shape=block_shape)
    for block, mask in blocks:
        assert (whole[block.slices] == 2).all()
        whole[block.slices] = mask
    np.testing.assert_array_equal(whole, binary(prediction, threshold=threshold))


def test_a_block_of_logits_is_refused_too():
    volume = from_array(np.full((1, 2, 2, 2), 3, np.float32), axes="czyx")
    with pytest.raises(UserError, match="not logits"):
        list(Binary().blocks(volume, store=UNUSED, block_shape=(2, 2, 2)))
