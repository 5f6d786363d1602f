"""The convert verb: segmentations of clefts become what is handed in to CREMI."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import ndimage

from emseg.cli import main
from emseg.datasets.alignment import Alignment, Placed, realign, write_alignment
from emseg.datasets.converted import THICKNESS
from emseg.volumes import write_volume

BACKGROUND = 0xFFFFFFFFFFFFFFFF
SHAPE = (2 * THICKNESS + 5, 20, 24)


def segment(labels, name="seg.h5", *, voxel_size=(40, 4, 4), axes="zyx", **more):
    write_volume(
        name, labels, axes=axes, voxel_size=voxel_size, attributes={"kind": "segmentation"}, **more
    )


def handed_in(name="A+.hdf"):
    with h5py.File(name) as file:
        assert file.attrs["file_format"] == "0.2"
        stored = file["volumes/labels/clefts"]
        assert (stored.dtype, stored.compression) == (np.uint64, "gzip")
        assert stored.attrs["resolution"].tolist() == [40, 4, 4]
        return stored[...], stored.attrs["offset"].tolist()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
def test_pieces_of_a_mask_are_clefts(dtype, capsys):
    mask = np.random.default_rng(0).random(SHAPE) < 0.03
    segment(mask.astype(dtype), offset=(40, 0, 8))
    assert main(["convert", "cremi-submission", "seg.h5", "A+.hdf"]) == 0
    clefts, offset = handed_in()
    assert offset == [40, 0, 8]
    np.testing.assert_array_equal(clefts == BACKGROUND, ~mask)
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    # The same pieces, whatever they are called.
    pairs = np.unique(np.stack([pieces[mask], clefts[mask].astype(np.int64)]), axis=1)
    assert pairs.shape[1] == len({*pairs[0]}) == len({*pairs[1]}) == count > 20
    told = capsys.readouterr().err
    assert f"A+.hdf: {count} clefts in 37 x 20 x 24 voxels" in told
    assert "the challenge's samples have 125 x 1250 x 1250" in told


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
def test_labels_keep_their_ids(dtype):
    labels = np.random.default_rng(0).choice([0, 0, 0, 7, 60000], SHAPE).astype(dtype)
    segment(labels)
    assert main(["convert", "cremi-submission", "seg.h5", "A+.hdf"]) == 0
    clefts, offset = handed_in()
    assert offset == [0, 0, 0]
    expected = labels.astype(np.uint64)
    expected[labels == 0] = BACKGROUND
    np.testing.assert_array_equal(clefts, expected)


def test_without_a_cleft_all_is_background():
    segment(np.zeros(SHAPE, np.uint8), voxel_size=None)
    assert main(["convert", "cremi-submission", "seg.h5", "A+.hdf"]) == 0
    assert (handed_in()[0] == BACKGROUND).all()


def test_a_realigned_segmentation_is_led_back():
    rng = np.random.default_rng(0)
    original = rng.choice([0, 0, 0, 2, 9], (40, 26, 22)).astype(np.uint32)
    # Section 5 was left out, and two are in the other order.
    order = [*range(5), *range(6, 40)]
    order[30], order[31] = order[31], order[30]
    steps = rng.integers(-3, 4, (len(order), 2)).tolist()
    placed = tuple(Placed(z, tuple(step)) for z, step in zip(order, steps, strict=True))
    alignment = Alignment(original.shape, placed)
    write_alignment("a.json", alignment)
    segment(realign(original, alignment, size=(24, 21)))
    words = ["convert", "cremi-submission", "seg.h5", "A+.hdf", "--alignment", "a.json"]
    assert main(words) == 0
    clefts, offset = handed_in()
    assert clefts.shape == original.shape and offset == [0, 0, 0]
    expected = np.full(original.shape, BACKGROUND, np.uint64)
    for z, (dy, dx) in zip(order, steps, strict=True):
        for y in range(max(0, dy), min(26, 24 + dy)):
            for x in range(max(0, dx), min(22, 21 + dx)):
                if original[z, y, x]:
                    expected[z, y, x] = original[z, y, x]
    np.testing.assert_array_equal(clefts, expected)


def test_a_mask_is_parted_before_it_is_led_back():
    # A cleft that is one in the aligned stack lies apart in the original: still one.
    mask = np.zeros((4, 12, 12), np.uint8)
    mask[:, 5:7, 5:7] = 1
    segment(mask)
    placed = tuple(Placed(z, (0, 5 if z % 2 else -5)) for z in range(4))
    write_alignment("a.json", Alignment((4, 12, 12), placed))
    words = ["convert", "cremi-submission", "seg.h5", "A+.hdf", "--alignment", "a.json"]
    assert main(words) == 0
    clefts, _ = handed_in()
    assert np.unique(clefts).tolist() == [1, BACKGROUND]
    assert np.count_nonzero(clefts == 1) == 16
    assert ndimage.label(clefts == 1, structure=np.ones((3, 3, 3)))[1] == 4


@pytest.mark.parametrize(
    ("array", "more", "told"),
    [
        (np.ones(SHAPE, np.float32), {}, "is a prediction, not a segmentation: decode it first"),
        (np.ones((1, *SHAPE), np.uint8), {"axes": "czyx"}, "--mode decode --input seg.h5"),
        (np.full(SHAPE, -1, np.int32), {}, "holds the id -1"),
        (np.full(SHAPE, BACKGROUND, np.uint64), {}, f"holds the id {BACKGROUND}"),
        (np.full(SHAPE, BACKGROUND - 1, np.uint64), {}, f"holds the id {BACKGROUND - 1}"),
        (np.ones(SHAPE, np.uint8), {"axes": "xyz"}, "has the axes xyz"),
        (np.ones(SHAPE, np.uint8), {"voxel_size": (40, 8, 8)}, "a resolution of (40.0, 8.0, 8.0)"),
    ],
)
def test_what_is_no_segmentation_of_the_challenge_is_refused(refused, array, more, told):
    if more.get("axes") == "czyx":
        more = more | {"voxel_size": (40, 4, 4)}
    segment(array, **more)
    assert told in refused("convert", "cremi-submission", "seg.h5", "A+.hdf")
    assert [path.name for path in Path().iterdir()] == ["seg.h5"]


def test_what_stands_in_the_way_of_a_submission_is_told(refused):
    segment(np.ones(SHAPE, np.uint8))
    before = Path("seg.h5").read_bytes()
    assert "seg.h5 is there, and was not" in refused(
        "convert", "cremi-submission", "seg.h5", "seg.h5"
    )
    assert "ends in .hdf" in refused("convert", "cremi-submission", "seg.h5", "A+.zarr")
    assert "cannot write 'A+.tif'" in refused("convert", "cremi-submission", "seg.h5", "A+.tif")
    assert "did you mean 'seg.h5'" in refused("convert", "cremi-submission", "sge.h5", "A+.hdf")
    words = ["cremi-submission", "seg.h5", "A+.hdf", "--alignment", "a.json"]
    assert "cannot read the alignment a.json" in refused("convert", *words)
    write_alignment("a.json", Alignment((9, 9, 9), (Placed(0, (0, 0)),)))
    assert "a.json has 1 sections, seg.h5:main has 37" in refused("convert", *words)
    assert Path("seg.h5").read_bytes() == before and not Path("A+.hdf").exists()


def test_a_part_of_a_realigned_volume_is_not_led_back(refused):
    segment(np.eye(9, dtype=np.uint8)[np.newaxis], offset=(0, 16, 16))
    write_alignment("a.json", Alignment((1, 9, 9), (Placed(0, (0, 0)),)))
    line = refused("convert", "cremi-submission", "seg.h5", "A+.hdf", "--alignment", "a.json")
    assert "begins at [0.0, 16.0, 16.0] nm: a record leads whole" in line
    assert not Path("A+.hdf").exists()


def test_what_convert_has_not_made_is_not_replaced(refused):
    segment(np.eye(9, dtype=np.uint8)[np.newaxis])
    with h5py.File("raw.hdf", "w") as file:
        file["volumes/raw"] = np.arange(9, dtype=np.uint8)
    before = Path("raw.hdf").read_bytes()
    line = refused("convert", "cremi-submission", "seg.h5", "raw.hdf")
    assert "raw.hdf is there, and was not made by convert" in line
    assert Path("raw.hdf").read_bytes() == before
    for _ in range(2):  # its own is
        assert main(["convert", "cremi-submission", "seg.h5", "A+.hdf"]) == 0


def test_what_is_more_than_half_clefts_is_told(capsys):
    segment(np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8))
    assert main(["convert", "cremi-submission", "seg.h5", "A+.hdf"]) == 0
    assert "warning: seg.h5:main is more than half clefts" in capsys.readouterr().err


def test_a_mask_of_255_is_a_mask():
    mask = np.zeros((3, 9, 9), np.uint8)
    mask[0, :2, :2] = mask[2, 6:, 6:] = 255
    segment(mask)
    assert main(["convert", "cremi-submission", "seg.h5", "A+.hdf"]) == 0
    assert len(np.unique(handed_in()[0])) == 3
