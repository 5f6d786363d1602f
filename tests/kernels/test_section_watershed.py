import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.segmentation import watershed

from emseg.kernels.section_watershed import flood_section, number_by_first
from reference.section_fragments import section_seeds, seeded_watershed

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
# Few values, so that most pixels have ties.
TIED = SHAPES.flatmap(
    lambda s: arrays(np.float32, s, elements=st.sampled_from([0.0, 0.25, 0.5, 1]))
)


def flooded(boundary: np.ndarray, spacing: int = 12) -> np.ndarray:
    labels = np.full(boundary.shape, 99, np.uint32)
    count = flood_section(boundary, spacing, labels)
    assert set(np.unique(labels)) == set(range(1, count + 1))
    return labels


@settings(max_examples=150)
@given(boundary=TIED, spacing=st.integers(1, 4))
def test_fragments_are_those_of_the_slow_queue_with_ties_too(boundary, spacing):
    expected = seeded_watershed(boundary, section_seeds(boundary, spacing))
    np.testing.assert_array_equal(flooded(boundary, spacing), expected)


@pytest.mark.parametrize("seed", range(6))
def test_fragments_are_those_of_scikit_image_where_nothing_is_tied(seed):
    random = np.random.default_rng(seed)
    boundary = ndimage.gaussian_filter(random.random((40, 70)), 1.5)
    ranks = np.argsort(np.argsort(boundary, axis=None)).reshape(boundary.shape)
    boundary = (ranks / ranks.size).astype(np.float32)
    assert len(np.unique(boundary)) == boundary.size
    seeds = section_seeds(boundary)
    assert seeds.max() > 10
    np.testing.assert_array_equal(flooded(boundary), watershed(boundary, seeds, connectivity=1))


def test_a_section_without_boundary_is_one_fragment_and_one_of_boundary_has_a_grid():
    assert flooded(np.zeros((30, 20), np.float32)).max() == 1
    assert flooded(np.full((30, 20), 0.5, np.float32)).max() == 3 * 2


@settings(max_examples=40)
@given(labels=arrays(np.uint32, (2, 3, 4), elements=st.integers(1, 6)))
def test_labels_are_numbered_by_first_voxels(labels):
    before = labels.copy()
    ids, first, sizes = np.zeros(7, np.uint32), np.zeros(7, np.int64), np.zeros(7, np.int64)
    count = number_by_first(labels, ids, first, sizes)
    places = [before.ravel().tolist().index(old) for old in np.unique(before)]
    assert first[1 : count + 1].tolist() == sorted(places)
    for label, place in enumerate(sorted(places), 1):
        same = before == before.ravel()[place]
        np.testing.assert_array_equal(labels == label, same)
        assert sizes[label] == same.sum()
