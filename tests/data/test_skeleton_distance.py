import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data.skeleton_distance import SkeletonDistance
from emseg.errors import UserError
from reference.skeleton_distance import section_by_pixel


@settings(deadline=None, max_examples=80)
@given(
    labels=arrays(np.int32, (2, 6, 7), elements=st.sampled_from([-1, 0, 1, 1, 1, 70_000])),
    resolution=st.permutations([30.0, 6.0, 8.0]),
    alpha=st.sampled_from([0.5, 0.8, 1.0]),
    background=st.sampled_from([-1.0, -0.25, 0.0]),
)
@example(np.ones((2, 6, 7), np.int32), [30.0, 6.0, 8.0], 0.8, -1.0)
def test_it_is_its_definition(labels, resolution, alpha, background):
    target = SkeletonDistance(resolution=tuple(resolution), alpha=alpha, background=background)
    values, mask = target(labels)
    assert values.shape == mask.shape == (1, *labels.shape)
    assert (values.dtype, mask.dtype) == (np.float32, bool)
    axis = int(np.argmax(resolution))
    pixel = [nm for nm in resolution if nm != 30]
    sections = (np.moveaxis(array, axis, 0) for array in (labels, values[0], mask[0]))
    for section, found, seen in zip(*sections, strict=True):
        wanted, known = section_by_pixel(section, pixel=pixel, alpha=alpha, background=background)
        np.testing.assert_array_equal(seen, known)
        np.testing.assert_allclose(found[known], wanted[known], rtol=1e-5)


def test_a_stripe_is_one_on_its_middle_and_falls_to_the_border():
    labels = np.zeros((1, 21, 9), np.int32)
    labels[:, :, 1:8] = 5
    values, mask = SkeletonDistance(resolution=(30, 6, 6), alpha=1.0)(labels)
    assert mask.all()
    np.testing.assert_allclose(
        values[0, 0, 10], [-1, 1 / 4, 2 / 4, 3 / 4, 1, 3 / 4, 2 / 4, 1 / 4, -1]
    )


def test_labels_stay_as_they_are():
    labels = np.array([[[-1, 0, 3], [3, 3, 0]]], np.int32)
    before = labels.copy()
    SkeletonDistance(resolution=(30, 6, 6))(labels)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": (30, 6)}, "resolution=.30, 6. must be 3 values"),
        ({"resolution": (30, 6, 0)}, "resolution.2.=0 must be above 0"),
        ({"resolution": (30, 6, 6), "alpha": 0}, "alpha=0 must be above 0"),
        ({"resolution": (30, 6, 6), "background": -2}, "background=-2 must be from -1 to 0"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        SkeletonDistance(**arguments)
