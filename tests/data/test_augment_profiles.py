"""The shipped sets of augmentations, on whole data sets."""

import hashlib
from typing import Any

import numpy as np
import pytest

from emseg.config.choices import conf_folder, list_groups
from emseg.config.construction import build
from emseg.config.reading import read_yaml
from emseg.data.augment import Pipeline
from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.targets import Affinity
from emseg.errors import UserError
from emseg.volumes import from_array

# A machine may have fewer cores than workers are tried.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

PROFILES = sorted(list_groups([conf_folder()])["augment"])
# Crops that end at `reach` leave what is beyond unlabelled.
REACHING = {"banis"}
PATCH = (8, 8, 8)


def node(profile: str) -> dict[str, Any]:
    return read_yaml(conf_folder() / "augment" / f"{profile}.yaml")


def pipeline(profile: str) -> Pipeline:
    return build(node(profile), kind="augment")


def volume(kind: type = np.uint8, shape: tuple = (48, 100, 100)) -> LabelledVolume:
    """Noise, fully labelled."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, shape, dtype=np.uint8)
    labels = rng.integers(0, 9, shape, dtype=np.int32)
    image = levels if kind is np.uint8 else levels / np.float32(255)
    return LabelledVolume(from_array(image), from_array(labels))


def dataset(profile: str, source: LabelledVolume | None = None, **settings: Any) -> PatchDataset:
    choices = {"patch_size": PATCH, "seed": 3, **settings}
    target = Affinity(offsets=[(1, 0, 0), (0, 0, 3)])
    augment = pipeline(profile)
    return PatchDataset([source or volume()], target=target, augment=augment, **choices)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_all_of_a_patch_is_labelled_and_volumes_are_not_written_to(
    profile: str, kind: type
) -> None:
    source = volume(kind)
    before = [hashlib.sha256(part[...]).digest() for part in (source.image, source.label)]
    patches, again, other = (dataset(profile, source, seed=seed) for seed in (3, 3, 4))
    for index in range(40):
        sample = patches[index]
        if index in (7, 33):
            # A number gives one sample, whatever was drawn before, and another seed another one.
            np.testing.assert_array_equal(again[index]["image"], sample["image"])
            # Boxes cut out of a small patch leave nothing of it.
            assert profile == "ssns" or (other[index]["image"] != sample["image"]).any()
        label, image = sample["label"], sample["image"]
        assert image.shape == (1, *PATCH) and image.dtype == np.float32
        assert label.shape == PATCH and label.dtype == np.int32
        assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1
        assert profile in REACHING or (label >= 0).all()
        for array in sample.values():
            assert array.flags.c_contiguous
            array[...] = 0
    after = [hashlib.sha256(part[...]).digest() for part in (source.image, source.label)]
    assert after == before


def test_what_a_reaching_profile_does_not_see_is_unlabelled_and_masked() -> None:
    patches, unseen = dataset("banis", volume(shape=(64, 64, 64)), patch_size=(32, 32, 32)), 0
    for index in range(12):
        sample = patches[index]
        unknown = sample["label"] == -1
        unseen += int(unknown.sum())
        assert (sample["image"][0][unknown] == 0).all()
        assert not sample["mask"][:, unknown].any()
    assert unseen > 0


MARGINS = {
    # Nine of Elastic make 160 pixels 178; 89 / 0.9 of them by 1.05 by the root of 2 are 58 more
    # than half; and two misalignments follow each other.
    "em_neuron": (1, 9 + 58 + 22, 9 + 58 + 22),
    "em_cleft": (0, 23, 23),
    "banis": (16, 16, 16),
    "dbmim": (0, 0, 0),
    "ssns": (0, 17, 17),
    "iso": (0, 0, 0),
    "light": (0, 0, 0),
    "none": (0, 0, 0),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_margins_are_what_the_transforms_need(profile: str) -> None:
    cube = profile in ("banis", "iso")
    patch = (160, 160, 160) if cube else (18, 160, 160)
    assert pipeline(profile).margin(patch) == MARGINS[profile]


@pytest.mark.parametrize("profile", PROFILES)
def test_patches_that_are_not_square_are_refused_where_axes_are_exchanged(profile: str) -> None:
    augment = pipeline(profile)
    augment.check((16, 16, 16))
    if profile == "none":
        augment.check((16, 16, 24))
        return
    with pytest.raises(UserError, match=r"augment.transforms.\w+ exchanges .*\[16, 16, 24\]"):
        dataset(profile, patch_size=(16, 16, 24))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("elastic.displacement", [1], r"elastic.displacement: expected \[number, number\]"),
        ("stack.transforms.slips.displacement", 2.5, "slips.displacement: expected int"),
        ("grayscale.scope", "sections", "grayscale.scope: .* did you mean 'section'"),
        ("noise.p", 2, "noise.p=2 must be from 0 to 1"),
        ("noise.sigam", [0, 1], "noise.sigam: .* did you mean 'sigma'"),
        ("stack.weights", {"slips": 1}, "stack: OneOf.weights"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: Any, message: str) -> None:
    body = node("em_neuron")
    *path, last = key.split(".")
    inner = body["transforms"]
    for name in path:
        inner = inner[name]
    inner[last] = value
    with pytest.raises(UserError, match=f"augment.transforms.*{message}") as error:
        build(body, kind="augment")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_of_sections_are_refused_where_the_first_axis_is_none(profile: str) -> None:
    source = volume()
    crossed = LabelledVolume(
        from_array(source.image[...], axes="xyz"), from_array(source.label[...], axes="xyz")
    )
    if profile in ("em_neuron", "em_cleft", "ssns"):
        with pytest.raises(UserError, match="which is x in volumes stored as xyz"):
            dataset(profile, crossed)
    else:
        assert dataset(profile, crossed)[0]["image"].shape == (1, *PATCH)
