"""What all transforms have: how often they fire, what they refuse; and one of several."""

from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from scipy import stats

from data.drawn_samples import numbered, random_sample, read_for
from emseg.config.choices import conf_folder
from emseg.data import augment
from emseg.data.augment import (
    OneOf,
    Pipeline,
    RandomTransform,
    Sample,
    Size,
    Transform,
)
from emseg.errors import UserError

SIZE = (6, 6, 6)
# Set so that firing shows, but for the share that stands beside it.
FIRING = [
    ("Flip", {"axes": (2,)}, 1),
    ("Rot90", {}, 1),
    ("Permute", {"axes": (1, 2)}, 1 / 2),
    ("Permute", {"axes": (0, 1, 2)}, 5 / 6),
    ("Affine", {}, 1),
    ("Affine", {"rotation": (0.0, 20.0, 20.0)}, 1),
    ("Elastic", {}, 1),
    ("Misalignment", {"displacement": 2}, 1),
    ("Slip", {"displacement": 2}, 1),
    ("SectionShifts", {"displacement": 2, "rate": 0.3}, 1 - 0.7**5),
    ("SectionShifts", {"displacement": 2, "rate": 0.3, "follow": True}, 1 - 0.7**5),
    ("LostSections", {}, 1),
    ("Rescale", {}, 1),
    ("Fold", {}, 1),
    ("MissingSections", {}, 1),
    ("MissingParts", {}, 1),
    ("OutOfFocus", {"full": 1.0}, 1),
    ("SectionBlur", {"sigma": (1.0, 2.0)}, 1),
    ("Grayscale", {"scope": "section"}, 1),
    ("Brightness", {"shift": (0.1, 0.2)}, 1),
    ("Contrast", {"gain": (0.5, 0.8)}, 1),
    ("Gamma", {"gamma": (1.5, 2.0)}, 1),
    ("GaussianNoise", {"sigma": (0.1, 0.2)}, 1),
    ("CutNoise", {"length": (0.5, 0.5)}, 1),
    ("CutBlur", {"length": (0.5, 0.5)}, 1),
    ("Cutout", {"count": (1, 2), "depth": (1, 3), "side": (2, 3)}, 1),
    ("DropSlices", {"rate": 1}, 1),
    ("ShiftSlices", {"rate": 1, "displacement": 2}, 1),
    ("CopyPaste", {"min_size": 1}, 1),
    ("Mixup", {}, 1),
]
NAMES = sorted({name for name, *_ in FIRING})


@pytest.mark.parametrize(("name", "settings", "shows"), FIRING)
def test_transform_fires_with_its_probability(name: str, settings: dict, shows: float) -> None:
    transform = getattr(augment, name)(**settings, p=0.2)
    rng, count, fired = np.random.default_rng(1), 2000, 0

    def draw(size: Size, rng: np.random.Generator) -> Sample:
        return random_sample(size, seed=1)

    crop = read_for(transform, SIZE)
    plain = random_sample(crop)
    sample = Sample(plain.image, numbered(crop).labels % 7 + 1, draw)
    for array in (sample.image, sample.labels):
        array.flags.writeable = False
    middle = sample.centre(SIZE)
    for _ in range(count):
        after = transform(sample, SIZE, rng)
        assert after.size == SIZE
        same = np.array_equal(after.image, middle.image)
        fired += not (same and np.array_equal(after.labels, middle.labels))
    assert stats.binomtest(fired, count, 0.2 * shows).pvalue > 1e-4


@pytest.mark.parametrize("p", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_p_may_be_a_whole_number(name: str, p: int) -> None:
    transform = getattr(augment, name)(p=p)
    crop = read_for(transform, SIZE)
    sample = Sample(random_sample(crop).image, numbered(crop).labels, lambda s, _: random_sample(s))
    after = transform(sample, SIZE, np.random.default_rng(0))
    if p == 0:
        np.testing.assert_array_equal(after.image, sample.centre(SIZE).image)


# Of every setting what is just beyond its rule; the rules themselves have a test of their own.
BEYOND: dict[str, dict[str, Any]] = {
    "Flip": {"axes": (0, 3)},
    "Rot90": {"axes": (0, 1, 2)},
    "Permute": {"axes": (1, 1)},
    "Affine": {
        "rotation": (0.0, 181.0, 0.0),
        "scale": (1.0, 0.0, 0.0),
        "shear": (0.0, 1.5, 0.0),
        "reach": (1, -1, 1),
    },
    "Rescale": {"factor": (0.0, 1.5)},
    "Elastic": {
        "displacement": (-1.0, 2.0),
        "displacement_across": (2.0, 1.0),
        "spacing": 0.5,
        "section_spacing": 0.0,
    },
    "Misalignment": {"displacement": 0, "rotation": 91.0, "missing": (-1, 2), "fill": (0.0, 1.1)},
    "Slip": {"displacement": 0, "sections": (0, 1)},
    "SectionShifts": {"displacement": 0, "rate": 1.1},
    "LostSections": {"sections": (0, 0)},
    "MissingSections": {"sections": (0, 2), "full": 1.1, "part": (0.5, 1.5), "fill": (-0.1, 1.0)},
    "MissingParts": {"sections": (0, 1), "hole": (0.0, 2.0), "fill": (0.0, 1.1)},
    "OutOfFocus": {"sections": (0, 0), "sigma": (-1.0, 1.0), "full": 1.1},
    "SectionBlur": {"sigma": (-1.0, 1.0), "widths": (3, -3)},
    "Fold": {
        "sections": (0, 2),
        "pull": (-1.0, 4.0),
        "reach": 11.9,
        "width": (-1.0, 4.0),
        "fill": (0.0, 1.1),
    },
    "Grayscale": {
        "gain": (-0.1, 1.0),
        "shift": (1.0, 0.0),
        "gamma": (0.0, 1.0),
        "scope": "sections",
    },
    "Brightness": {"shift": (0.2, 0.1)},
    "Contrast": {"gain": (-1.0, 1.0)},
    "Gamma": {"gamma": (0.001, 1.0)},
    "GaussianNoise": {"sigma": (-0.1, 0.1)},
    "CutNoise": {"length": (0.5, 1.1), "sigma": (-0.1, 0.1)},
    "CutBlur": {"length": (-0.1, 0.5), "ratio": (1, 4)},
    "Cutout": {"count": (0, 2), "depth": (0, 2), "side": (0, 2), "fill": 1.5},
    "DropSlices": {"axes": (), "rate": 1.1, "fill": 2.0},
    "ShiftSlices": {"axes": (0, 0), "rate": -0.1, "displacement": 0},
    "CopyPaste": {"min_size": 0},
    "Mixup": {"ratio": (0.5, 1.5)},
}
# Neither of them has a value that is out of range.
FREE = {"move_labels", "follow"}
BASES = {"RandomTransform", "ImageTransform"}


@pytest.mark.parametrize("name", NAMES)
def test_impossible_settings_are_refused(name: str) -> None:
    kind, beyond = getattr(augment, name), {"p": 1.1, **BEYOND[name]}
    assert {field.name for field in fields(kind)} - FREE == set(beyond)
    for setting, value in beyond.items():
        with pytest.raises(UserError, match=rf"{name}: {setting}[\[=]|{setting} .* {name};"):
            kind(**{setting: value})


def test_all_transforms_are_looked_at_and_stand_in_a_shipped_choice() -> None:
    public = {name for name, one in vars(augment).items() if isinstance(one, type)}
    single = {n for n in public if issubclass(getattr(augment, n), RandomTransform)} - BASES
    text = "".join(file.read_text() for file in conf_folder().glob("*/*.yaml"))
    assert single == set(NAMES) == {name for name in single if f".{name}," in text}


class Marked(Transform):
    """Sets the image to its number, after a margin of as many voxels."""

    def __init__(self, number: int) -> None:
        self._number = number

    def margin(self, size: Size) -> Size:
        return 0, self._number, 0

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        assert sample.size == read_for(self, size)
        middle = sample.centre(size)
        return middle.with_image(np.full_like(middle.image, self._number))


THREE: dict[str, Transform | None] = {"a": Marked(1), "b": Marked(3), "c": Marked(2)}


@pytest.mark.parametrize(
    ("weights", "chances"),
    [
        (None, [1, 1, 1]),
        ({"a": 3, "b": 1, "c": 0.5}, [3, 1, 0.5]),
        ({"a": 0, "b": 2, "c": 2}, [0, 1, 1]),
        ({"a": 3, "b": 0, "c": 1}, [3, 0, 1]),
    ],
)
def test_one_of_is_drawn_by_weight(weights: dict[str, float] | None, chances: list[float]) -> None:
    one = OneOf(transforms=THREE, weights=weights, p=0.8)
    # Of those that can be drawn, what the largest needs.
    needs = [number for number, chance in zip((1, 3, 2), chances, strict=True) if chance]
    assert one.margin(SIZE) == (0, max(needs), 0)
    crop = read_for(one, SIZE)
    sample = Sample(np.zeros((1, *crop), np.uint8), np.zeros(crop, np.int32))
    rng, found = np.random.default_rng(2), Counter()
    for _ in range(3000):
        found[int(one(sample, SIZE, rng).image.max())] += 1
    expected = np.array([0.2, *(0.8 * np.array(chances) / sum(chances))])[[0, 1, 3, 2]]
    assert all(found[number] == 0 for number in np.flatnonzero(expected == 0))
    drawn = np.flatnonzero(expected)
    observed = [found[number] for number in drawn]
    assert stats.chisquare(observed, 3000 * expected[drawn]).pvalue > 1e-4


def test_one_taken_away_is_not_drawn_and_needs_no_weight() -> None:
    one = OneOf(transforms={**THREE, "b": None})
    assert one.margin(SIZE) == (0, 2, 0)
    assert OneOf(transforms={**THREE, "b": None}, weights={"a": 1, "c": 1}).margin(SIZE)[1] == 2
    assert OneOf(transforms={**THREE, "b": None}, weights={"a": 1, "b": 9, "c": 1}).p == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transforms": {}}, "of one transform or more"),
        ({"transforms": {"a": None}}, "of one transform or more"),
        ({"transforms": THREE, "weights": {"a": 0, "b": 0, "c": 0}}, "above 0"),
        ({"transforms": THREE, "weights": {"a": 1, "b": -1, "c": 1}}, "be 0 or more"),
        (
            {"transforms": THREE, "weights": {"a": 1, "b": float("nan"), "c": 1}},
            "be 0 or more",
        ),
        (
            {"transforms": THREE, "weights": {"a": 1, "b": float("inf"), "c": 1}},
            "be 0 or more",
        ),
        ({"transforms": THREE, "weights": {"a": 1}}, "OneOf.weights: b, c"),
        (
            {"transforms": THREE, "weights": {"a": 1, "b": 1, "c": 1, "bb": 1}},
            "'bb'.*OneOf.weights",
        ),
        ({"transforms": THREE, "p": 1.2}, "OneOf: p=1.2"),
        ({"transforms": {"a": 3}}, "a: 3 is no transform"),
    ],
)
def test_impossible_groups_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        OneOf(**settings)


def test_a_group_asks_what_its_members_ask() -> None:
    """A turn inside a group and a pipeline within it get square sections before margins are cut."""
    inner = Pipeline(transforms={"wide": Marked(2), "turn": augment.Rot90(axes=(1, 2), p=1)})
    pipeline = Pipeline(
        transforms={"group": OneOf(transforms={"inner": inner, "b": Marked(1)}), "c": Marked(3)}
    )
    assert pipeline.equal_axes == (1, 2)
    with pytest.raises(UserError, match=r"augment.transforms.group exchanges axes \[1, 2\]"):
        pipeline.check((6, 6, 8))
    pipeline.check(SIZE)
    margin = pipeline.margin(SIZE)
    assert margin == (0, 5, 3)
    for seed in range(20):
        sample = random_sample(read_for(pipeline, SIZE))
        assert pipeline(sample, SIZE, np.random.default_rng(seed)).size == SIZE
