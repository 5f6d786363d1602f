import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data.shape_descriptors import ShapeDescriptors
from reference.shape_descriptors import descriptors_by_voxel


@settings(deadline=None, max_examples=40)
@given(
    labels=arrays(np.int32, (3, 6, 5), elements=st.sampled_from([-1, 0, 1, 1, 2, 70_000])),
    resolution=st.sampled_from([(8.0, 8.0, 8.0), (40.0, 4.0, 4.0), (4.0, 10.0, 30.0)]),
    sigma=st.sampled_from([6.0, 10.0]),
)
def test_they_are_their_definition(labels, resolution, sigma):
    values, mask = ShapeDescriptors(resolution=resolution, sigma=sigma)(labels)
    assert (values.dtype, mask.dtype) == (np.float32, bool)
    np.testing.assert_array_equal(mask, np.broadcast_to(labels != -1, values.shape))
    expected = descriptors_by_voxel(labels, resolution=resolution, sigma=sigma)
    np.testing.assert_allclose(values, expected, atol=1e-5)


def test_what_a_rod_looks_like_from_its_end():
    labels = np.zeros((9, 9, 60), np.int32)
    labels[4, 4] = 7
    target = ShapeDescriptors(resolution=(8, 8, 8), sigma=40)
    end = dict(zip(target.names, target(labels)[0][:, 4, 4, 0], strict=True))
    # Half a Gaussian: its mean is sqrt(2 / pi) = 0.80 sigma away, its variance 1 - 2 / pi = 0.36.
    assert end["offset-0"] == end["offset-1"] == pytest.approx(0.5)
    assert end["offset-2"] == pytest.approx(0.5 + 0.5 * np.sqrt(2 / np.pi), abs=0.05)
    assert end["variance-2"] == pytest.approx(1 - 2 / np.pi, abs=0.05)
    assert end["variance-0"] == pytest.approx(0, abs=1e-4)


def test_a_patch_with_its_context_has_the_values_of_the_whole():
    labels = np.random.default_rng(3).integers(0, 3, (20, 20, 20), np.int32)
    target = ShapeDescriptors(resolution=(4, 8, 8), sigma=8)
    (before, after), patch = target.context, (slice(8, 11),) * 3
    around = tuple(slice(8 - b, 11 + a) for b, a in zip(before, after, strict=True))
    inner = tuple(slice(b, b + 3) for b in before)
    whole, part = target(labels)[0], target(labels[around])[0]
    np.testing.assert_allclose(part[:, *inner], whole[:, *patch], atol=1e-6)


def test_the_place_of_an_object_does_not_matter():
    """lsd-lite's values of this rod change with it, see findings/."""

    def rod(first):
        labels = np.zeros((3, 3, first + 20), np.int32)
        labels[1, 1, first : first + 9] = 1
        target = ShapeDescriptors(resolution=(10, 10, 10), sigma=80)
        return target(labels)[0][:, 1, 1, first : first + 9]

    np.testing.assert_array_equal(rod(12_000), rod(5))
