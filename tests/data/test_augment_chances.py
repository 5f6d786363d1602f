"""What all transforms have: how often they fire, and what they refuse."""

from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from scipy import stats

from data.drawn_samples import numbered, random_sample, read_for
from emseg.config.choices import conf_folder
from emseg.data import augment
from emseg.data.augment import RandomTransform, Sample, Size
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
    ("CellShade", {"share": 1.0, "shade": (0.5, 0.6)}, 1),
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
    never = getattr(augment, name)(**settings, p=0)(sample, SIZE, rng)
    np.testing.assert_array_equal(never.image, middle.image)


def _absurd(annotation: Any) -> Any:
    """A value that no setting of this type can have."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Annotated, Union, UnionType):
        return _absurd(args[0])
    if origin is Literal:
        return "nonsense"
    if origin is Sequence or (origin is tuple and args[-1] is Ellipsis):
        return (-2,)
    return (10**9, -(10**9), -(10**9))[: len(args)] if origin is tuple else -(10**9)


BASES = {"RandomTransform", "ImageTransform"}


@pytest.mark.parametrize("name", NAMES)
def test_absurd_settings_are_refused(name: str) -> None:
    kind = getattr(augment, name)
    for setting, annotation in get_type_hints(kind, include_extras=True).items():
        if annotation is bool or setting == "in_sections":
            continue
        with pytest.raises(UserError, match=rf"{name}: {setting}[\[=]|{setting} .* in {name} "):
            kind(**{setting: _absurd(annotation)})


def test_all_transforms_are_looked_at_and_stand_in_a_shipped_choice() -> None:
    public = {name for name, one in vars(augment).items() if isinstance(one, type)}
    single = {n for n in public if issubclass(getattr(augment, n), RandomTransform)} - BASES
    text = "".join(file.read_text() for file in conf_folder().glob("*/*.yaml"))
    assert single == set(NAMES) == {name for name in single if f".{name}," in text}
