from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from emseg.data.augment import Flip, GaussianNoise, Permute, Pipeline, Sample, Size, Transform
from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Affinity
from emseg.errors import UserError
from emseg.volumes import Volume, from_array, open_volume, write_volume
from reference.affinity import affinities_by_voxel, eroded_by_voxel

OFFSETS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 3)]
CUBE = Pipeline(transforms={"flip": Flip(), "permute": Permute(axes=(1, 2))})


def volume(
    shape: Sequence[int] = (8, 12, 12), *, first: int = 0, seed: int = 0, **settings: object
) -> LabelledVolume:
    """Blocky labels from `first` up with unlabelled voxels, and an image painted from them."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 6, [-(-size // 3) for size in shape])
    label = np.kron(blocks, np.ones((3, 3, 3), int))[tuple(map(slice, shape))].astype(np.int64)
    label = np.where(label > 0, label + first, 0)
    label[rng.random(label.shape) < 0.05] = -1
    return LabelledVolume(from_array(painted(label)), from_array(label), **settings)


def painted(label: np.ndarray) -> np.ndarray:
    return (label + 1).astype(np.uint8)


def dataset(*volumes: LabelledVolume, **settings: object) -> PatchDataset:
    target = Affinity(offsets=OFFSETS, erosion=(0, 1, 1))
    choices = {"patch_size": (4, 6, 6), "seed": 7, "target": target, "augment": CUBE, **settings}
    return PatchDataset(volumes or [volume()], **choices)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


def test_sample_has_the_promised_shapes_and_types() -> None:
    sample = dataset()[0]
    shapes = {key: (array.shape, array.dtype) for key, array in sample.items()}
    assert shapes == {
        "image": ((1, 4, 6, 6), np.float32),
        "target": ((4, 4, 6, 6), np.uint8),
        "mask": ((4, 4, 6, 6), bool),
        "label": ((4, 6, 6), np.int32),
    }
    assert all(array.flags.c_contiguous for array in sample.values())


def test_image_target_and_mask_belong_to_the_label() -> None:
    patches = dataset()
    for index in range(25):
        sample = patches[index]
        label = sample["label"]
        np.testing.assert_allclose(sample["image"][0], painted(label) / 255, rtol=1e-6)
        eroded = eroded_by_voxel(label, (0, 1, 1))
        values, mask = affinities_by_voxel(eroded, OFFSETS, "destination")
        np.testing.assert_array_equal(sample["mask"], mask)
        np.testing.assert_array_equal(sample["target"][mask], values[mask])


def test_patches_are_cut_from_the_volume() -> None:
    source = volume()
    stored = source.label[...]
    windows = np.lib.stride_tricks.sliding_window_view(stored, (4, 6, 6)).reshape(-1, 4, 6, 6)
    known = {window.tobytes() for window in windows.astype(np.int32)}
    patches = dataset(source, augment=None)
    assert all(patches[index]["label"].tobytes() in known for index in range(50))


def test_sample_depends_on_seed_namespace_and_index_alone() -> None:
    augment = Pipeline(transforms={**CUBE.transforms, "noise": GaussianNoise(p=0.5)})
    one, other = dataset(augment=augment), dataset(augment=augment)
    forwards = [one[index] for index in range(8)]
    np.random.seed(0)
    backwards = [other[index] for index in reversed(range(8))]
    for first, second in zip(forwards, reversed(backwards), strict=True):
        assert_same(first, second)
    for different in (dataset(augment=augment, seed=8), dataset(augment=augment, namespace=1)):
        assert not np.array_equal(different[0]["image"], one[0]["image"])


@pytest.mark.parametrize("reject", [None, RejectSampling(20, 0.9)])
@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_lazy_reading_gives_what_memory_gives(
    tmp_path: Path, suffix: str, reject: RejectSampling | None
) -> None:
    source = volume()
    for name, part in (("image", source.image), ("label", source.label)):
        write_volume(
            tmp_path / f"{name}{suffix}", part[...], axes="zyx", voxel_size=None, attributes={}
        )

    def stored(name: str) -> Volume:
        return open_volume(tmp_path / f"{name}{suffix}")

    files = LabelledVolume(stored("image"), stored("label"))
    lazy, memory = (dataset(files, preload=p, reject=reject) for p in (False, True))
    for index in range(6):
        assert_same(lazy[index], memory[index])
        assert_same(lazy[index], dataset(source, reject=reject)[index])


@pytest.mark.parametrize("preload", [False, True])
def test_image_channels_stay_together(preload: bool) -> None:
    source = volume()
    image = source.image[...]
    two = from_array(np.stack([image, 255 - image], axis=-1), axes="zyxc")
    patches = dataset(LabelledVolume(two, source.label), preload=preload)
    assert patches.channels == 2
    for index in range(5):
        sample = patches[index]["image"]
        np.testing.assert_array_equal(sample[:1], dataset(source)[index]["image"])
        np.testing.assert_allclose(sample.sum(axis=0), 1, rtol=1e-6)


def test_volumes_are_drawn_by_their_weights() -> None:
    low, high = volume(weight=1.0), volume(first=100, weight=4.0)
    patches = dataset(low, high, augment=None)
    count = 300
    from_high = sum(int(patches[index]["label"].max()) > 100 for index in range(count))
    assert abs(from_high - 0.8 * count) < 5 * np.sqrt(count * 0.8 * 0.2)


class Shift(Transform):
    """Moves image and labels by up to two voxels."""

    def margin(self, size: Size) -> Size:
        return 0, 2, 2

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        steps = tuple(int(step) for step in rng.integers(-2, 3, 2))
        rolled = [np.roll(array, steps, (-2, -1)) for array in (sample.image, sample.labels)]
        return sample.with_arrays(*rolled).centre(size)


def test_margin_is_read_and_cut_away() -> None:
    # Columns count up, so that a wrapped one would break the count.
    label = np.broadcast_to(np.arange(1, 13), (8, 12, 12)).copy()
    source = LabelledVolume(from_array(painted(label)), from_array(label))
    patches = dataset(source, augment=Pipeline(transforms={"shift": Shift()}))
    for index in range(30):
        found = patches[index]["label"]
        assert found.shape == (4, 6, 6)
        np.testing.assert_array_equal(np.diff(found, axis=2), 1)


def test_small_volume_is_reflected_when_asked() -> None:
    source = volume((3, 12, 12))
    with pytest.raises(
        UserError, match=r"\(3, 12, 12\) is smaller than a patch \[4, 6, 6\].*pad_small"
    ):
        dataset(source)
    patches = dataset(source, volume(), pad_small=True, augment=None)
    assert len(patches.notes) == 1 and "(3, 12, 12)" in patches.notes[0]
    sample = dataset(source, pad_small=True, augment=None)[3]
    assert (sample["label"][0] == -1).all() and (sample["label"][1:] != -1).any()
    np.testing.assert_array_equal(sample["image"][0, 0], sample["image"][0, 2])


def test_margin_counts_as_part_of_the_patch() -> None:
    with pytest.raises(
        UserError, match=r"\[4, 14, 14\] with the augmentation's margin \[0, 2, 2\]:"
    ):
        dataset(patch_size=(4, 10, 10), augment=Pipeline(transforms={"shift": Shift()}))


LONG = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, 3, 0), (0, 0, -2)]


@pytest.mark.parametrize("edge_side", ["source", "destination"])
def test_pairs_that_leave_the_patch_are_known_from_its_context(edge_side: str) -> None:
    # An object all over the place; background; the rest are ids of one voxel, to tell the place by.
    stored = np.random.default_rng(0).permutation(8 * 9 * 10).reshape(8, 9, 10)
    stored[stored % 3 == 0] = 7
    stored[stored % 5 == 1] = 0
    stored[stored % 11 == 1] = -1
    values, mask = affinities_by_voxel(stored, LONG, edge_side)
    source = LabelledVolume(from_array((stored % 256).astype(np.uint8)), from_array(stored))
    size = (4, 5, 6)
    target = Affinity(offsets=LONG, edge_side=edge_side)
    patches = dataset(source, patch_size=size, target=target, target_context=True, augment=None)
    windows = np.lib.stride_tricks.sliding_window_view(stored, size)
    corners = set()
    for index in range(200):
        sample = patches[index]
        (corner,) = np.argwhere((windows == sample["label"]).all(axis=(3, 4, 5)))
        corners.add(tuple(corner.tolist()))
        at = tuple(slice(first, first + n) for first, n in zip(corner, size, strict=True))
        # The very values of the whole volume: masked only where the pair leaves that.
        np.testing.assert_array_equal(sample["mask"], mask[:, *at])
        np.testing.assert_array_equal(sample["target"], values[:, *at])
        np.testing.assert_allclose(sample["image"][0] * 255, stored[at] % 256, atol=1e-3)
        assert {name: array.shape[-3:] for name, array in sample.items()} == dict.fromkeys(
            ("image", "target", "mask", "label"), size
        )
    # Patches lie everywhere in the volume, their context beyond it at the end.
    assert [set(places) for places in zip(*corners, strict=True)] == [set(range(5))] * 3


def test_context_is_augmented_with_its_patch() -> None:
    # Objects are planes: a context that was not turned with the patch would not fit it.
    label = np.broadcast_to(np.arange(1, 15), (14, 14, 14)).copy()
    source = LabelledVolume(from_array(painted(label)), from_array(label))
    turns = Pipeline(transforms={"permute": Permute(axes=(0, 1, 2)), "flip": Flip()})
    offsets = [(3, 0, 0), (0, 3, 0), (0, 0, 3)]
    patches = dataset(
        source,
        patch_size=(6, 6, 6),
        target=Affinity(offsets=offsets, edge_side="source"),
        target_context=True,
        augment=turns,
    )
    across, whole = set(), 0
    for index in range(30):
        sample = patches[index]
        label = np.ma.masked_equal(sample["label"], -1)
        steps = [int(np.abs(np.ma.diff(label, axis=axis)).max()) for axis in range(3)]
        across.add(steps.index(1))
        for channel, step in enumerate(steps):
            known = sample["target"][channel][sample["mask"][channel]]
            assert (known == (step == 0)).all()
        whole += sample["mask"].all()
    assert across == {0, 1, 2} and whole > 0


def test_pieces_that_part_within_the_crop_are_objects_of_their_own() -> None:
    rng = np.random.default_rng(3)
    stored = rng.integers(-1, 3, (8, 9, 10))
    source = LabelledVolume(from_array(painted(stored)), from_array(stored))
    plain = dataset(source, patch_size=(6, 6, 6), augment=None, target=Affinity(offsets=LONG))
    parted = dataset(
        source,
        patch_size=(6, 6, 6),
        augment=None,
        target=Affinity(offsets=LONG),
        relabel_crops=True,
    )
    for index in range(20):
        before, after = plain[index]["label"], parted[index]["label"]
        np.testing.assert_array_equal(np.where(before > 0, 1, before), np.clip(after, -1, 1))
        expected = np.zeros(before.shape, int)
        for object_id in (1, 2):
            found, _ = ndimage.label(before == object_id)  # faces alone, as by default
            expected = np.where(found > 0, 1000 * object_id + found, expected)
        pairs = np.unique(np.stack([after[after > 0], expected[after > 0]]), axis=1)
        assert pairs.shape[1] == len(set(pairs[0])) == len(set(pairs[1])) > 2
        values, mask = affinities_by_voxel(after, LONG, "destination")
        np.testing.assert_array_equal(parted[index]["target"][mask], values[mask])


def broken(**parts: np.ndarray) -> LabelledVolume:
    good = {"image": np.zeros((8, 12, 12), np.uint8), "label": np.zeros((8, 12, 12), np.uint8)}
    return LabelledVolume(**{name: from_array(array) for name, array in (good | parts).items()})


def two_channels() -> LabelledVolume:
    image = from_array(np.zeros((2, 8, 12, 12), np.uint8), axes="czyx")
    return LabelledVolume(image, volume().label)


@pytest.mark.parametrize(
    ("volumes", "settings", "message"),
    [
        ([], {}, "no volume"),
        ([broken(label=np.zeros((8, 12, 11), np.uint8))], {}, "shape"),
        ([broken(label=np.zeros((8, 12, 12), np.float32))], {}, "float32"),
        ([broken(image=np.full((8, 12, 12), np.nan, np.float32))], {}, "NaN"),
        ([broken(label=np.full((8, 12, 12), -3, np.int32))], {}, "label -3"),
        ([volume(weight=1.0), volume()], {}, "weight"),
        ([volume(), two_channels()], {}, "2 channels"),
        ([volume()], {"patch_size": (4, 6)}, "patch_size"),
        ([volume()], {"patch_size": (4, 6, 0)}, "patch_size"),
        ([volume()], {"patch_size": (4, 6, 5)}, "permute"),
        ([volume()], {"patch_size": (4, 3, 3)}, "leaves every patch"),
        ([volume()], {"intensity_range": (1, 0)}, "intensity_range"),
    ],
)
@pytest.mark.parametrize("preload", [False, True])
def test_mistakes_are_told_before_the_first_sample(
    volumes: list[LabelledVolume], settings: dict, message: str, preload: bool
) -> None:
    target = Affinity(offsets=OFFSETS)
    choices = {"patch_size": (4, 6, 6), "seed": 7, "target": target, "augment": CUBE, **settings}
    with pytest.raises(UserError, match=message) as error:
        PatchDataset(volumes, preload=preload, **choices)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("preload", [False, True])
def test_without_a_target_there_are_images_alone_and_a_number_of_the_sample(preload: bool) -> None:
    source = volume()
    bare = LabelledVolume(source.image)
    settings = {"target": None, "preload": preload}
    images, labelled = dataset(bare, **settings), dataset(source)
    other = dataset(bare, **settings, namespace=1)
    (note,) = dataset(bare, **settings, patch_size=(10, 6, 6), pad_small=True).notes
    assert note.endswith("its image is reflected")
    seeds = set()
    for index in range(12):
        sample = images[index]
        assert sample.keys() == {"image", "seed"}
        # The labels do not change what is seen of the image.
        np.testing.assert_array_equal(sample["image"], labelled[index]["image"])
        assert_same(sample, dataset(bare, **settings)[index])
        seeds |= {int(sample["seed"]), int(other[index]["seed"])}
    assert len(seeds) == 24 and min(seeds) >= 0


def test_percentiles_are_those_of_each_volume() -> None:
    dark = np.random.default_rng(0).integers(0, 50, (8, 12, 12)).astype(np.uint8)
    sources = [LabelledVolume(from_array(image), weight=1) for image in (dark, dark + 200)]
    patches = dataset(*sources, target=None, augment=None, intensity_percentiles=(10, 90))
    low, high = np.percentile(dark, [10, 90])
    windows = np.lib.stride_tricks.sliding_window_view(dark, (4, 6, 6)).reshape(-1, 4, 6, 6)
    known = np.clip((windows - low) / (high - low), 0, 1)
    for index in range(10):
        found = np.abs(known - patches[index]["image"]).max(axis=(1, 2, 3))
        assert found.min() < 1e-5
