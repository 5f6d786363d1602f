import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.data import intensity
from emseg.data.labelled import (
    LabelledVolume,
    check_labels,
    check_shapes,
    in_memory,
    pieces,
    read_region,
)
from emseg.errors import UserError
from emseg.volumes import from_array

SHAPE = (3, 4, 5)
WHOLE = ((0, 0, 0), SHAPE)


def labelled(
    label: np.ndarray | None = None,
    *,
    image: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    **settings: float,
) -> LabelledVolume:
    image = np.zeros(SHAPE, np.uint8) if image is None else image
    label = np.zeros(SHAPE, np.uint32) if label is None else label
    return LabelledVolume(
        from_array(image),
        from_array(label),
        mask=None if mask is None else from_array(mask),
        **settings,
    )


def same_objects(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label arrays differ in the names of their objects at most."""
    pairs = set(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True))
    fixed = all((a <= 0 or b <= 0) <= (a == b) for a, b in pairs)
    return fixed and len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_labels_of_any_integer_come_as_int32(dtype: type) -> None:
    ids = np.random.default_rng(0).integers(0, 6, SHAPE)
    largest = min(np.iinfo(dtype).max, 2**63 - 1)  # what lies beyond needs a name
    stored = (ids * (largest // 6)).astype(dtype)
    _, labels = read_region(labelled(stored), *WHOLE)
    assert labels.dtype == np.int32
    assert same_objects(labels, ids)


def test_ids_that_fit_are_kept() -> None:
    stored = np.random.default_rng(0).integers(0, 2**31, SHAPE, dtype=np.uint64)
    np.testing.assert_array_equal(read_region(labelled(stored), *WHOLE)[1], stored)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), dtype=st.sampled_from([np.int32, np.uint64]))
def test_unlabelled_ids_and_masked_voxels_become_minus_one(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, 4, SHAPE).astype(dtype)
    mask = rng.integers(0, 3, SHAPE).astype(np.uint8)
    transparent = np.iinfo(dtype).max - 2
    stored[0, :2] = transparent
    expected = np.where((mask == 0) | (stored == transparent), -1, stored.astype(np.int64))
    volume = labelled(stored, mask=mask, unlabelled=int(transparent))
    np.testing.assert_array_equal(read_region(volume, *WHOLE)[1], expected)
    memory = in_memory(volume)
    np.testing.assert_array_equal(memory.label[...], expected)
    np.testing.assert_array_equal(read_region(memory, *WHOLE)[1], expected)


@pytest.mark.parametrize("dtype", [np.int32, np.uint64])
def test_labels_are_loaded_slab_by_slab(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (64, 64, 64)
    stored = np.random.default_rng(0).integers(0, 2**31, shape).astype(dtype)
    volume = labelled(stored, image=np.zeros(shape, np.uint8), mask=np.ones(shape, np.uint8))
    monkeypatch.setattr(intensity, "SLAB_VOXELS", 2 * 64 * 64)
    tracemalloc.start()
    memory = in_memory(volume)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(memory.label[...], stored)
    assert peak < 6.5 * stored.size  # 4 bytes of label, 1 of image, and a few slabs


def test_large_ids_are_renumbered_alike_in_all_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, 6, SHAPE)
    stored = ids.astype(np.uint64)
    stored[ids == 5] = 2**63 - 1
    stored[0][ids[0] == 5] = 0
    monkeypatch.setattr(intensity, "SLAB_VOXELS", 1)
    memory = in_memory(labelled(stored))
    assert memory.label.dtype == np.int32
    assert same_objects(memory.label[...], stored)


def test_minus_one_and_a_named_background_are_unlabelled() -> None:
    stored = np.random.default_rng(0).integers(-1, 3, SHAPE)
    volume = labelled(stored, unlabelled=0)
    check_labels(volume)
    expected = np.where(stored == 0, -1, stored)
    np.testing.assert_array_equal(read_region(volume, *WHOLE)[1], expected)


@pytest.mark.parametrize("dtype", ["uint64", "int64", "uint8"])
def test_the_background_id_is_zero_and_the_invalid_one_unlabelled(dtype: str) -> None:
    ids = np.random.default_rng(0).integers(0, 5, SHAPE)
    top = int(np.iinfo(dtype).max)
    stored = np.where(ids == 3, top, np.where(ids == 4, top - 1, ids.astype(dtype))).astype(dtype)
    # The unlabelled id may be one that no file of this dtype can hold.
    volume = labelled(stored, background=top, unlabelled=2**64 - 2 if dtype == "uint8" else top - 1)
    check_labels(volume)
    expected = np.where(ids == 3, 0, ids)
    expected[ids == 4] = 254 if dtype == "uint8" else -1
    for read in (volume, in_memory(volume)):
        np.testing.assert_array_equal(read_region(read, *WHOLE)[1], expected)


def test_ids_of_cremi_without_a_name_are_refused() -> None:
    stored = np.zeros(SHAPE, np.uint64)
    stored[0] = 2**64 - 1
    with pytest.raises(UserError, match="18446744073709551615: .* CREMI .* background and unlab"):
        check_labels(labelled(stored))
    check_labels(labelled(stored, background=2**64 - 1))
    stored[1] = 2**64 - 2
    with pytest.raises(UserError, match="holds the label 18446744073709551614"):
        check_labels(labelled(stored, background=2**64 - 1))


def test_beyond_the_volume_the_image_is_reflected_and_nothing_labelled() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, SHAPE, dtype=np.uint8)
    stored = rng.integers(0, 9, SHAPE, dtype=np.uint32)
    region, labels = read_region(labelled(stored, image=image), (-1, 1, -2), (4, 3, 6))
    padded = np.pad(image, [(1, 1), (0, 0), (2, 1)], mode="reflect")[:, 1:3]
    np.testing.assert_array_equal(region[0], padded)
    expected = np.pad(stored.astype(int), [(1, 1), (0, 0), (2, 1)], constant_values=-1)[:, 1:3]
    np.testing.assert_array_equal(labels, expected)


def test_region_of_what_lies_in_memory_cannot_be_written_to() -> None:
    image, stored = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.int32)
    region, labels = read_region(labelled(stored, image=image), *WHOLE)
    assert np.shares_memory(region, image) and np.shares_memory(labels, stored)
    for part in (region, labels):
        with pytest.raises(ValueError, match="read-only"):
            part += 1


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (labelled(np.zeros((3, 4, 6), np.uint8)), r"\(3, 4, 6\).*\(3, 4, 5\)"),
        (labelled(mask=np.zeros((1, 4, 5), np.uint8)), r"\(1, 4, 5\).*\(3, 4, 5\)"),
        (labelled(np.zeros(SHAPE, np.float32)), "float32.*integers"),
        (labelled(mask=np.zeros(SHAPE, np.float64)), "float64.*integers"),
        (labelled(weight=0.0), "weight 0.0"),
        (
            LabelledVolume(
                from_array(np.zeros(SHAPE, np.uint8)),
                from_array(np.zeros(SHAPE, np.uint8), axes="xyz"),
            ),
            "axes xyz.* zyx",
        ),
        (
            LabelledVolume(
                from_array(np.zeros(SHAPE, np.uint8)),
                from_array(np.zeros((2, *SHAPE), np.uint8), axes="czyx"),
            ),
            "2 channels",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(volume: LabelledVolume, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_shapes(volume)
    assert "\n" not in str(error.value)


def test_other_negative_labels_are_refused() -> None:
    stored = np.zeros(SHAPE, np.int64)
    stored[2, 3, 4] = -7
    check_labels(labelled(stored, unlabelled=-7))
    with pytest.raises(UserError, match="label -7"):
        check_labels(labelled(stored))


def test_pieces_of_an_array_that_may_not_be_written_to() -> None:
    labels = np.zeros((2, 3, 3), np.int32)
    labels[:, ::2] = 4
    labels.flags.writeable = False
    found = pieces(labels)
    assert len(np.unique(found)) == 3 and (found[:, 1] == 0).all()
