import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data.drawn_samples import KINDS, Extreme, framed, read_for
from emseg.data.augment import (
    Affine,
    Elastic,
    Fold,
    LostSections,
    Misalignment,
    Rescale,
    Sample,
    SectionShifts,
    Size,
    Slip,
    Transform,
)
from emseg.data.augment.warps import _spline

STILL = (0.0, 0.0, 0.0)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7))
# As strong as a crop of a test allows.
AFFINE = st.builds(
    Affine,
    rotation=st.one_of(
        st.tuples(st.floats(0, 180), st.just(0.0), st.just(0.0)),
        st.tuples(*[st.floats(0, 180)] * 3),
    ),
    scale=st.tuples(st.sampled_from([0.0, 0.4]), st.floats(0, 0.5), st.floats(0, 0.5)),
    shear=st.one_of(
        st.tuples(st.floats(0, 1), st.just(0.0), st.just(0.0)), st.tuples(*[st.floats(0, 0.6)] * 3)
    ),
    p=st.just(1.0),
)
ELASTIC = st.builds(
    Elastic,
    displacement=st.sampled_from([(0.0, 0.0), (3.0, 3.0), (1.0, 7.3)]),
    spacing=st.floats(1, 60),
    section_spacing=st.one_of(st.none(), st.floats(1, 9)),
    displacement_across=st.one_of(st.none(), st.just((1.5, 1.5))),
    p=st.just(1.0),
)
TURNED = st.builds(Misalignment, displacement=st.just(3), rotation=st.floats(1, 90), p=st.just(1.0))
SHIFTED = st.sampled_from(
    [
        Misalignment(displacement=5, p=1.0),
        Slip(displacement=5, sections=(1, 4), move_labels=True, p=1.0),
        SectionShifts(displacement=2, rate=0.3, follow=True, move_labels=True, p=1.0),
        LostSections(sections=(1, 4), p=1.0),
        SectionShifts(displacement=5, rate=0.7, move_labels=True, p=1.0),
        Rescale(factor=(0.3, 3.0), p=1.0),
        Rescale(factor=(1.5, 2.0), p=1.0),
    ]
)

# Its band, which is none here, would show.
FOLDED = Fold(sections=(1, 4), pull=(2.0, 5.0), reach=6.0, width=(0.0, 0.0), p=1.0)


def located(size: Size, kind: type) -> Sample:
    """Labels that number the voxels, and an image whose channels are their coordinates."""
    labels = np.arange(np.prod(size), dtype=np.int32).reshape(size)
    places = np.indices(size, np.float32)
    return Sample((5 * places).astype(np.uint8) if kind is np.uint8 else places / 64, labels)


def from_image(image: np.ndarray) -> np.ndarray:
    return image / 5 if image.dtype == np.uint8 else image * 64.0


@settings(deadline=None, max_examples=100)
@given(
    transform=st.one_of(AFFINE, ELASTIC, TURNED, SHIFTED),
    size=SIZES,
    kind=st.sampled_from(KINDS),
    extreme=st.booleans(),
    seed=SEEDS,
)
def test_labels_are_those_of_the_nearest_voxel_and_all_was_read(
    transform: Transform, size: Size, kind: type, extreme: bool, seed: int
) -> None:
    rng = Extreme(seed) if extreme else np.random.default_rng(seed)
    crop = read_for(transform, size)
    warped = transform(located(crop, kind), size, rng)
    assert warped.size == size and warped.image.shape == (3, *size)
    assert warped.image.dtype == kind and warped.labels.dtype == np.int32
    assert warped.labels.min() >= 0
    if max(crop) > 51 and kind is np.uint8:
        return  # Coordinates have no level of their own.
    labelled = np.array(np.unravel_index(warped.labels, crop))
    apart = np.abs(from_image(warped.image) - labelled)
    assert apart.max() <= 0.5 + (0.1 if kind is np.uint8 else 1e-3)


@settings(deadline=None, max_examples=100)
@given(
    transform=st.one_of(AFFINE, ELASTIC, TURNED, SHIFTED, st.just(FOLDED)),
    size=SIZES,
    kind=st.sampled_from(KINDS),
    extreme=st.booleans(),
    seed=SEEDS,
)
def test_nothing_beyond_the_margin_is_looked_at(
    transform: Transform, size: Size, kind: type, extreme: bool, seed: int
) -> None:
    rng = Extreme(seed) if extreme else np.random.default_rng(seed)
    # On an axis without margin a transform may count from the first voxel on.
    frame = tuple(4 if around else 0 for around in transform.margin(size))
    seen = transform(framed(read_for(transform, size), kind, frame), size, rng)
    grey = 128 if kind is np.uint8 else np.float32(128) / 255
    np.testing.assert_allclose(seen.image, grey, rtol=0 if kind is np.uint8 else 1e-6)
    assert (seen.labels == 7).all()


def matrix_of(transform: Affine, size: Size, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The linear map from result to crop, both from their centres, and how far it is from that."""
    crop = read_for(transform, size)
    warped = transform(located(crop, np.float32), size, np.random.default_rng(seed))
    there = from_image(warped.image) - (np.array(crop).reshape(3, 1, 1, 1) - 1) / 2
    here = np.indices(size) - (np.array(size).reshape(3, 1, 1, 1) - 1) / 2
    fitted, *_ = np.linalg.lstsq(here.reshape(3, -1).T, there.reshape(3, -1).T)
    return fitted.T, there.reshape(3, -1) - fitted.T @ here.reshape(3, -1)


SEVERAL = (4, 5, 5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_is_about_the_centre_and_uniform(axis: int) -> None:
    rotation = tuple(30.0 if other == axis else 0.0 for other in range(3))
    transform = Affine(rotation=rotation, scale=STILL, shear=STILL, p=1.0)
    angles = []
    for seed in range(150):
        matrix, error = matrix_of(transform, SEVERAL, seed)
        assert np.abs(error).max() < 1e-3
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-3)
        np.testing.assert_allclose(matrix[axis], np.eye(3)[axis], atol=1e-3)
        first, second = (other for other in range(3) if other != axis)
        angles.append(np.degrees(np.arctan2(matrix[second, first], matrix[first, first])))
    assert stats.kstest(angles, "uniform", (-30, 60)).pvalue > 1e-3


def test_scale_magnifies_each_axis_by_its_own_factor() -> None:
    transform = Affine(rotation=STILL, scale=(0.0, 0.2, 0.5), shear=STILL, p=1.0)
    factors = []
    for seed in range(150):
        matrix, error = matrix_of(transform, SEVERAL, seed)
        assert np.abs(error).max() < 1e-3
        assert np.abs(matrix - np.diag(np.diag(matrix))).max() < 1e-3
        factors.append(1 / np.diag(matrix))
    np.testing.assert_allclose(np.array(factors)[:, 0], 1, atol=1e-3)
    for axis, most in ((1, 0.2), (2, 0.5)):
        spread = np.array(factors)[:, axis]
        assert stats.kstest(spread, "uniform", (1 - most, 2 * most)).pvalue > 1e-3


@pytest.mark.parametrize(("plane", "axes"), [(0, (1, 2)), (1, (0, 2)), (2, (0, 1))])
def test_shear_moves_along_the_axes_of_its_plane(plane: int, axes: tuple[int, int]) -> None:
    shear = tuple(0.3 if other == plane else 0.0 for other in range(3))
    transform = Affine(rotation=STILL, scale=STILL, shear=shear, p=1.0)
    drawn = []
    for seed in range(100):
        matrix, error = matrix_of(transform, SEVERAL, seed)
        assert np.abs(error).max() < 1e-3
        drawn.append([matrix[axes], matrix[axes[::-1]]])
        matrix[axes] = matrix[axes[::-1]] = 0
        np.testing.assert_allclose(matrix, np.eye(3), atol=1e-3)
    there, back = np.array(drawn).T
    for values in (there, back):
        assert stats.kstest(values, "uniform", (-0.3, 0.6)).pvalue > 1e-3
    assert abs(np.corrcoef(there, back)[0, 1]) < 0.45


def displacements(transform: Elastic, size: Size, seed: int) -> np.ndarray:
    crop = read_for(transform, size)
    warped = transform(located(crop, np.float32), size, np.random.default_rng(seed))
    middle = np.subtract(crop, size) // 2
    return from_image(warped.image) - np.indices(size) - middle.reshape(3, 1, 1, 1)


WIDE = (5, 30, 40)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("section_spacing", [None, 3.0])
@pytest.mark.parametrize("across", [None, (0.5, 1.0)])
def test_elastic_field_is_as_large_as_drawn_and_smooth(
    seed: int, section_spacing: float | None, across: tuple[float, float] | None
) -> None:
    transform = Elastic(
        displacement=(2.0, 4.0),
        spacing=10.0,
        section_spacing=section_spacing,
        displacement_across=across,
        p=1.0,
    )
    field = displacements(transform, WIDE, seed)
    largest = np.abs(field).max(axis=(1, 2, 3))
    low, high = across or (0.0, 0.0)
    assert low - 1e-3 <= largest[0] <= high + 1e-3
    assert all(2 - 1e-3 <= most <= 4 + 1e-3 for most in largest[1:])
    # Of a cubic B-spline of control points within +-c, the second derivative is within 4 c / h^2;
    # values are 2/3 c at least where one control point stands out, some 0.1 c where none does.
    for axis in (2, 3):
        assert np.abs(np.diff(field, 2, axis=axis)).max() < 10 * 4 * 4.0 / 10**2
    changes = np.abs(np.diff(field, axis=1)).max()
    assert changes < 1e-3 if section_spacing is None else 0.05 < changes < 4


def test_largest_displacements_are_uniform() -> None:
    transform = Elastic(displacement=(1.0, 3.0), spacing=4.0, p=1.0)
    found = [displacements(transform, (1, 9, 9), seed) for seed in range(150)]
    largest = [np.abs(field[1]).max() for field in found]
    assert stats.kstest(largest, "uniform", (1, 2)).pvalue > 1e-3


@pytest.mark.parametrize("spacing", [1.0, 1.7, 40.0])
def test_elastic_weights_are_a_spline(spacing: float) -> None:
    """Cubic B-splines add up to 1 and reproduce straight lines."""
    weights = _spline(50, spacing)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    line = weights @ (np.arange(weights.shape[1]) - 1) * spacing
    np.testing.assert_allclose(line, np.arange(50), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_reach_limits_the_crop_and_leaves_the_rest_unlabelled(kind: type) -> None:
    size, reach = (4, 12, 12), (1, 2, 3)
    transform = Affine(rotation=(45.0, 45.0, 45.0), scale=STILL, shear=STILL, reach=reach, p=1.0)
    assert transform.margin(size) == reach
    crop = read_for(transform, size)
    white = np.full((1, *crop), 255, np.uint8)
    sample = Sample(white if kind is np.uint8 else white / np.float32(255), np.ones(crop, np.int32))
    warped = transform(sample, size, Extreme(1))
    unseen = warped.labels == -1
    assert 0.05 < unseen.mean() < 0.9 and set(np.unique(warped.labels)) == {-1, 1}
    assert (warped.image[0][unseen] == 0).all()
    assert (warped.image[0][~unseen] == sample.image.max()).all()
    # More than is needed is not read.
    assert Affine(rotation=STILL, scale=STILL, shear=STILL, reach=(9, 9, 9)).margin(size) < (
        2,
        2,
        2,
    )
