import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from emseg.kernels import warp
from emseg.kernels.warp import warp_sections, warp_volume

KINDS = st.sampled_from([np.uint8, np.float32])
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**32 - 1)


def arrays(rng: np.random.Generator, size: tuple, kind: type) -> tuple[np.ndarray, np.ndarray]:
    image = rng.integers(0, 256, (2, *size), dtype=np.uint8)
    labels = rng.integers(0, 99, size, dtype=np.int32)
    return image if kind is np.uint8 else image / np.float32(255), labels


def check(
    image: np.ndarray,
    labels: np.ndarray,
    places: np.ndarray,
    found: tuple[np.ndarray, np.ndarray],
) -> None:
    """What was found is what scipy reads at the places (3, Z, Y, X), which are known to 1e-4."""
    warped, moved = found
    assert warped.dtype == image.dtype and moved.dtype == np.int32
    limits = np.array(labels.shape).reshape(3, 1, 1, 1) - 1
    beyond = np.maximum(-places, places - limits).max(axis=0)
    # A place within rounding of a face may be taken for either side of it.
    inside, outside = beyond <= -1e-4, beyond >= 1e-4
    assert (moved[outside] == -1).all() and (warped[:, outside] == 0).all()

    tie = (np.abs(places - np.floor(places) - 0.5) < 1e-4).any(axis=0)
    nearest = ndimage.map_coordinates(labels, np.floor(places + 0.5), order=0, mode="nearest")
    np.testing.assert_array_equal(moved[inside & ~tie], nearest[inside & ~tie])
    largest = 255 if image.dtype == np.uint8 else 1
    for channel, expected in zip(warped, image.astype(np.float64), strict=True):
        smooth = ndimage.map_coordinates(expected, places, order=1, mode="nearest")
        rounding = 0.5 if image.dtype == np.uint8 else 0
        error = np.abs(channel.astype(np.float64) - smooth)[inside]
        assert (error <= rounding + 1e-4 * largest).all()


@settings(max_examples=60)
@given(
    size=SIZES,
    out=SIZES,
    kind=KINDS,
    many=st.booleans(),
    fields=st.booleans(),
    wild=st.floats(0, 1),
    seed=SEEDS,
)
def test_sections_are_read_where_scipy_reads_them(
    size: tuple, out: tuple, kind: type, many: bool, fields: bool, wild: float, seed: int
) -> None:
    # Where nothing is wild, whole rows lie inside, and those are read by other loops.
    rng = np.random.default_rng(seed)
    out = (min(out[0], size[0]), *out[1:])
    first = int(rng.integers(size[0] - out[0] + 1))
    image, labels = arrays(rng, size, kind)
    matrices = wild * rng.normal(0, 0.7, (out[0] if many else 1, 2, 3))
    matrices[:, :, 2] += rng.uniform(0, np.subtract(size[1:], 1)) + wild * rng.uniform(-3, 3, 2)
    field = wild * rng.normal(0, 2, (out[0] if many else 1, 2, *out[1:]))
    field = field.astype(np.float32) if fields else NOTHING

    z, y, x = np.indices(out)
    m = np.broadcast_to(matrices, (out[0], 2, 3))[z].transpose(3, 4, 0, 1, 2)
    within = m[:, 0] * y + m[:, 1] * x + m[:, 2]
    if fields:
        within = within + np.broadcast_to(field, (out[0], 2, *out[1:])).transpose(1, 0, 2, 3)
    places = np.concatenate([(z + first)[np.newaxis], within])
    found = warp_sections(image, labels, matrices=matrices, field=field, first=first, size=out)
    # Within sections alone: sections themselves are on the grid.
    deep = (
        np.pad(image, ((0, 0), (1, 1), (0, 0), (0, 0))),
        np.pad(labels, ((1, 1), (0, 0), (0, 0))),
    )
    check(*deep, places + np.array([1, 0, 0]).reshape(3, 1, 1, 1), found)


@settings(max_examples=60)
@given(size=SIZES, out=SIZES, kind=KINDS, many=st.booleans(), fields=st.booleans(), seed=SEEDS)
def test_a_volume_is_read_where_scipy_reads_it(
    size: tuple, out: tuple, kind: type, many: bool, fields: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, labels = arrays(rng, size, kind)
    matrix = np.column_stack([rng.normal(0, 0.6, (3, 3)), rng.uniform(-1, 5, 3)])
    field = rng.normal(0, 2, (out[0] if many else 1, 3, *out[1:])).astype(np.float32)
    field = field if fields else field[:0]
    z, y, x = np.indices(out)
    places = np.tensordot(matrix[:, :3], np.stack([z, y, x]), 1) + matrix[:, 3:, None, None]
    if fields:
        places = places + np.broadcast_to(field, (out[0], 3, *out[1:])).transpose(1, 0, 2, 3)
    check(image, labels, places, warp_volume(image, labels, matrix=matrix, field=field, size=out))


NOTHING = np.zeros((0, 2, 1, 1), np.float32)
IDENTITY = np.eye(2, 3)[np.newaxis]


def shifted(
    image: np.ndarray, labels: np.ndarray, shift: float, volume: bool, size: tuple | None = None
) -> tuple:
    """Read `shift` pixels further along the last axis."""
    size = size or labels.shape
    if volume:
        matrix = np.eye(3, 4)
        matrix[2, 3] = shift
        nothing = np.zeros((0, 3, 1, 1), np.float32)
        return warp_volume(image, labels, matrix=matrix, field=nothing, size=size)
    matrices = IDENTITY.copy()
    matrices[0, 1, 2] = shift
    return warp_sections(image, labels, matrices=matrices, field=NOTHING, first=0, size=size)


@pytest.mark.parametrize("volume", [False, True])
def test_the_last_voxels_are_seen_and_what_is_just_beyond_is_not(volume: bool) -> None:
    labels = np.arange(1, 9, dtype=np.int32).reshape(2, 2, 2)
    image = labels[np.newaxis].astype(np.uint8)
    for shift, expected in ((0.0, [1, 2]), (1.0, [2, -1]), (1e-4, [1, -1]), (-1e-4, [-1, 2])):
        warped, moved = shifted(image, labels, shift, volume)
        assert moved[0, 0].tolist() == expected
        assert warped[0, 0, 0].tolist() == [max(e, 0) for e in expected]


@pytest.mark.parametrize("volume", [False, True])
@pytest.mark.parametrize("columns", [3, 4])
def test_halves_go_up(volume: bool, columns: int) -> None:
    """Halfway between two pixels the label is the later one's, and a level of .5 is rounded up."""
    labels = np.tile(np.array([10, 21, 30, 41], np.int32), (2, 2, 1))
    image = labels[np.newaxis].astype(np.uint8)
    # With the fourth column some of a row is outside, without it the row is read in one go.
    warped, moved = shifted(image, labels, 0.5, volume, size=(2, 1, columns))
    assert moved[0, 0].tolist() == [21, 30, 41, -1][:columns]
    assert warped[0, 0, 0].tolist() == [16, 26, 36, 0][:columns]


def test_white_stays_white() -> None:
    labels = np.ones((3, 20, 20), np.int32)
    for image in (np.full((1, 3, 20, 20), 255, np.uint8), np.ones((1, 3, 20, 20), np.float32)):
        for volume in (False, True):
            for shift in np.linspace(0, 0.999, 40):
                warped, _ = shifted(image, labels, shift, volume)
                assert (warped[..., :19] == image.max()).all()


def test_one_compiled_kernel_serves_all_layouts() -> None:
    """Compiling takes seconds; a worker must not do it in the midst of a run for another layout."""
    labels = np.arange(64, dtype=np.int32).reshape(4, 4, 4)
    kinds = (np.uint8, np.float32)
    expected = {
        kind: shifted(labels[np.newaxis].astype(kind), labels, 0.3, False) for kind in kinds
    }
    for kind in kinds:
        for sealed in (False, True):
            for fortran in (False, True):
                order = "F" if fortran else "C"
                image = np.array(labels[np.newaxis].astype(kind), order=order)
                other = np.array(labels, order=order)
                for array in (image, other):
                    array.flags.writeable = not sealed
                for volume in (False, True):
                    shifted(image, other, 0.3, volume)
                warped, moved = shifted(image, other, 0.3, False)
                np.testing.assert_array_equal(warped, expected[kind][0])
                np.testing.assert_array_equal(moved, expected[kind][1])
    assert len(warp._warp_sections.signatures) <= 2
    assert len(warp._warp_volume.signatures) <= 2
