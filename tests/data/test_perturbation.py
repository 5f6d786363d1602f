"""Two views of a patch, and unlabelled patches beside labelled ones."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.drawn_samples import KINDS, numbered, read_for
from emseg.config.choices import conf_folder
from emseg.config.construction import build
from emseg.config.reading import read_yaml
from emseg.data.augment import (
    Brightness,
    Cutout,
    Flip,
    Misalignment,
    OneOf,
    Permute,
    Pipeline,
    SectionShifts,
    Size,
    Transform,
)
from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.paired import PairedDataset
from emseg.data.perturbation import Perturbation
from emseg.data.targets import Affinity
from emseg.errors import UserError
from emseg.volumes import from_array

# A machine may have fewer cores than workers are tried.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")

CHOICES = ("none", "ssns_ws", "ssns_ema")
PATCH = (6, 8, 8)
FLIPS: dict[str, Transform | None] = {"flip": Flip(), "transpose": Permute(axes=(1, 2))}


def node(choice: str) -> dict[str, Any]:
    return read_yaml(conf_folder() / "perturb" / f"{choice}.yaml")


def shipped(choice: str) -> Perturbation:
    return build(node(choice), kind="perturb")


def enabled(choice: str) -> Perturbation:
    """The choice with all that is off switched on."""
    body = node(choice)
    for item in body["both"]["transforms"].values():
        item["p"] = item["p"] or 0.5
    if "weights" in body["student"]:
        body["student"]["weights"] = None
    return build(body, kind="perturb")


def volume(kind: type = np.uint8, shape: Size = (16, 60, 60), channels: int = 0) -> LabelledVolume:
    """Noise without labels."""
    stored = (*shape, channels) if channels else shape
    levels = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    image = levels if kind is np.uint8 else levels / np.float32(255)
    return LabelledVolume(from_array(image, axes="zyxc" if channels else "zyx"))


def dataset(perturbation: Perturbation, source: LabelledVolume | None = None, **more: Any) -> Any:
    choices = {"patch_size": PATCH, "seed": 5, "target": None, **more}
    return PatchDataset([source or volume()], perturbation=perturbation, **choices)


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("made", [shipped, enabled])
def test_both_views_are_what_is_promised_and_volumes_are_not_written_to(
    choice: str, kind: type, made: Any
) -> None:
    perturbation = made(choice)
    # Elastic and Rescale need room.
    source = volume(kind, (20, 90, 90), 2)
    before = source.image[...].copy()
    patches = dataset(perturbation, source)
    for index in range(60):
        sample = patches[index]
        assert sample.keys() == {"image", "perturbed", "seed"}
        for name in ("image", "perturbed"):
            view = sample[name]
            assert view.shape == (2, *PATCH) and view.dtype == np.float32
            assert np.isfinite(view).all() and view.min() >= 0 and view.max() <= 1
            assert view.flags.c_contiguous and view.flags.owndata
            view[...] = 0
    np.testing.assert_array_equal(source.image[...], before)


STUDENTS = st.sampled_from(
    [
        Brightness(shift=(-0.3, 0.3), p=1.0),
        Cutout(count=(1, 3), depth=(1, 2), side=(2, 4), p=1.0),
        SectionShifts(displacement=3, rate=0.5, p=1.0),
        Misalignment(displacement=2, p=1.0),
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    student=st.lists(STUDENTS, max_size=3),
    grouped=st.booleans(),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    writeable=st.booleans(),
)
def test_the_clean_view_is_the_middle_of_what_both_are_given(
    student: list[Transform], grouped: bool, kind: type, seed: int, writeable: bool
) -> None:
    named: dict[str, Transform | None] = {str(at): one for at, one in enumerate(student)}
    group = OneOf(transforms=named) if grouped and named else Pipeline(transforms=named)
    perturbation = Perturbation(both=Pipeline(transforms=FLIPS), student=group)
    size = (3, 5, 5)
    crop = read_for(perturbation, size)  # type: ignore[arg-type]
    assert crop == tuple(np.add(size, np.multiply(2, group.margin(size))))
    sample = numbered(crop, kind, 2)
    sample.image.flags.writeable = writeable
    expected = Pipeline(transforms=FLIPS)(
        numbered(crop, kind, 2), crop, np.random.default_rng(seed)
    )
    clean, perturbed = perturbation.views(sample, size, np.random.default_rng(seed))
    middle = expected.centre(size).image
    scale = 255 if kind is np.uint8 else 1
    np.testing.assert_allclose(clean, middle / np.float32(scale), rtol=1e-6)
    if not named:
        np.testing.assert_array_equal(clean, perturbed)


@pytest.mark.parametrize("follow", [False, True])
def test_misaligned_sections_of_the_student_are_real_ones_of_the_volume(follow: bool) -> None:
    displacement = 3
    shifts = SectionShifts(displacement=displacement, rate=0.4, follow=follow, p=1.0)
    perturbation = Perturbation(student=OneOf(transforms={"shifts": shifts}))
    source = volume()
    windows = np.lib.stride_tricks.sliding_window_view(source.image[...], PATCH[1:], (1, 2))
    corners = np.ndindex(windows.shape[:3])
    place = {windows[corner].tobytes(): np.array(corner) for corner in corners}
    patches, moved = dataset(perturbation, source), 0
    for index in range(30):
        sample = patches[index]
        clean, seen = (np.rint(sample[k][0] * 255).astype(np.uint8) for k in ("image", "perturbed"))
        still = np.array([place[section.tobytes()] for section in clean])
        steps = np.array([place[section.tobytes()] for section in seen]) - still
        np.testing.assert_array_equal(still - still[0], np.outer(np.arange(PATCH[0]), (1, 0, 0)))
        assert not steps[:, 0].any() and not steps[0].any()
        assert np.abs(steps).max() <= displacement
        moved += np.count_nonzero(steps.any(axis=1))
    assert moved > 30


def test_the_four_of_a_moving_average_are_drawn_by_themselves() -> None:
    student = shipped("ssns_ema").student
    assert isinstance(student, Pipeline)
    chances = {name: one.p for name, one in student.transforms.items()}  # type: ignore[union-attr]
    assert chances == dict.fromkeys(("intensity", "noise", "blur", "mask"), 0.5)


def test_what_is_off_asks_for_no_margin() -> None:
    size = (18, 160, 160)
    assert shipped("ssns_ws").margin(size) == (0, 17, 17)
    assert shipped("ssns_ema").margin(size) == shipped("none").margin(size) == (0, 0, 0)
    # Slips and Elastic make 160 pixels 208; from the middle, 103.5 / 0.667 of them reach 52 more.
    assert enabled("ssns_ws").margin(size) == (0, 17 + 7 + 52, 17 + 7 + 52)


def test_perturbations_are_for_images_alone_and_the_only_augmentation() -> None:
    target = Affinity(offsets=[(1, 0, 0)])
    for wrong in ({"target": target}, {"augment": Pipeline()}):
        with pytest.raises(ValueError, match="perturbation is for images without a target"):
            dataset(shipped("none"), **wrong)


def test_what_a_patch_does_not_allow_is_named_with_its_key() -> None:
    with pytest.raises(UserError, match=r"^perturb.both.transforms.transpose exchanges"):
        dataset(shipped("ssns_ws"), patch_size=(4, 6, 8))
    crossed = LabelledVolume(from_array(volume().image[...], axes="xyz"))
    with pytest.raises(
        UserError, match=r"^perturb.student.transforms.intensity is for .* another perturb$"
    ):
        dataset(shipped("ssns_ema"), crossed)
    # Sections lie across the first axis of every volume, not of the first one alone.
    with pytest.raises(UserError, match="x in volumes stored as xyz"):
        PatchDataset(
            [volume(), crossed],
            patch_size=PATCH,
            seed=5,
            target=None,
            perturbation=shipped("ssns_ema"),
        )
    with pytest.raises(UserError, match=r"smaller than a patch .* margin \[0, 17, 17\]"):
        dataset(shipped("ssns_ws"), volume(shape=(8, 30, 30)))


def labelled(channels: int = 0) -> PatchDataset:
    source = volume(channels=channels)
    labels = from_array(np.random.default_rng(1).integers(0, 9, source.image.shape, dtype=np.int32))
    target = Affinity(offsets=[(1, 0, 0)])
    sources = [LabelledVolume(source.image, labels)]
    return PatchDataset(sources, patch_size=PATCH, seed=5, target=target, namespace=0)


def test_pairs_are_the_samples_of_both_with_independent_draws() -> None:
    one, other = labelled(), dataset(shipped("ssns_ws"), namespace=2)
    pairs = PairedDataset(one, other)
    assert pairs.channels == 1
    for index in (3, 0, 7):
        views = {"unlabelled": other[index]["image"], "perturbed": other[index]["perturbed"]}
        assert_same(pairs[index], {**one[index], **views})
    # Of one namespace both would come from one place.
    plain = dataset(shipped("none"), namespace=0)
    apart = PairedDataset(one, dataset(shipped("none"), namespace=2))
    for index in range(10):
        np.testing.assert_array_equal(one[index]["image"], plain[index]["image"])
        assert not np.array_equal(apart[index]["image"], apart[index]["unlabelled"])


def test_pairs_tell_of_both_and_have_the_same_channels() -> None:
    small = dataset(shipped("none"), volume(shape=(4, 60, 60)), pad_small=True)
    (note,) = PairedDataset(labelled(), small).notes
    assert "(4, 60, 60)" in note
    with pytest.raises(UserError, match="labelled images have 2 channels, unlabelled ones 1"):
        PairedDataset(labelled(channels=2), small)
