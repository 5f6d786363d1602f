"""Transforms in a row, and one of several."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from data.drawn_samples import numbered, random_sample, read_for
from emseg.data.augment import OneOf, Permute, Pipeline, Rescale, Rot90, Sample, Size, Transform
from emseg.errors import UserError

SIZE = (4, 6, 6)


class Marked(Transform):
    """Sets the image to its number, after a margin of its own or of as many rows."""

    def __init__(self, number: int = 0, margin: Size | None = None) -> None:
        self._number = number
        self._margin = margin or (0, number, 0)

    def margin(self, size: Size) -> Size:
        return self._margin

    def __call__(self, sample: Sample, size: Size, rng: np.random.Generator) -> Sample:
        assert sample.size == read_for(self, size)
        middle = sample.centre(size)
        return middle.with_image(np.full_like(middle.image, self._number))


def test_margins_add_up_and_exchanged_axes_share_the_largest() -> None:
    assert Pipeline().margin(SIZE) == (0, 0, 0)
    two = {"a": Marked(margin=(1, 0, 5)), "b": Marked(margin=(0, 2, 4))}
    assert Pipeline(transforms=two).margin(SIZE) == (1, 2, 9)
    # What is turned last gets what is needed before it; what is turned first must be square.
    assert Pipeline(transforms={**two, "turn": Rot90(axes=(1, 2))}).margin(SIZE) == (1, 2, 9)
    turned_first = Pipeline(transforms={"turn": Rot90(axes=(1, 2)), **two})
    assert turned_first.margin(SIZE) == (1, 9, 9)


@pytest.mark.parametrize("seed", range(20))
def test_each_transform_gets_what_it_asked_for(seed: int) -> None:
    transforms = {
        "a": Marked(margin=(1, 0, 5)),
        "turn": Rot90(axes=(1, 2)),
        "b": Marked(margin=(0, 2, 4)),
    }
    pipeline = Pipeline(transforms=transforms)
    crop = tuple(np.add(SIZE, np.multiply(2, pipeline.margin(SIZE))))
    assert pipeline(numbered(crop), SIZE, np.random.default_rng(seed)).size == SIZE


def test_a_transform_that_never_fires_is_not_there() -> None:
    never, always = Rescale(p=0.0), Permute(axes=(1, 2), p=0.0)
    pipeline = Pipeline(
        transforms={"scale": never, "turn": always, "shift": Marked(margin=(1, 2, 3))}
    )
    assert pipeline.margin((4, 6, 8)) == (1, 2, 3) and pipeline.equal_axes == ()
    pipeline.check((4, 6, 8), "xyz")
    assert Pipeline(transforms={"group": OneOf(transforms={"a": Marked(margin=SIZE)}, p=0)}).margin(
        SIZE
    ) == (0, 0, 0)


def test_transform_may_be_taken_away_but_nothing_else_put_in_its_place() -> None:
    pipeline = Pipeline(transforms={"turn": None, "shift": Marked(margin=(1, 2, 3))})
    assert pipeline.margin(SIZE) == (1, 2, 3)
    with pytest.raises(UserError, match="^transforms.turn: 3 is no transform"):
        Pipeline(transforms={"turn": 3})


@pytest.mark.parametrize("transform", [Rot90(axes=(1, 2)), Permute(axes=(2, 1))])
def test_exchanged_axes_must_have_one_size(transform: Transform) -> None:
    pipeline = Pipeline(transforms={"turn": transform})
    pipeline.check((16, 32, 32))
    with pytest.raises(UserError, match=r"augment.transforms.turn .*\[16, 32, 64\]"):
        pipeline.check((16, 32, 64))


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
    ],
)
def test_impossible_groups_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        OneOf(**settings)


def test_a_group_asks_what_its_members_ask() -> None:
    """A turn inside a group and a pipeline within it get square sections before margins are cut."""
    inner = Pipeline(transforms={"wide": Marked(2), "turn": Rot90(axes=(1, 2), p=1)})
    pipeline = Pipeline(
        transforms={"group": OneOf(transforms={"inner": inner, "b": Marked(1)}), "c": Marked(3)}
    )
    assert pipeline.equal_axes == (1, 2)
    with pytest.raises(UserError, match=r"augment.transforms.group exchanges axes \[1, 2\]"):
        pipeline.check((4, 6, 8))
    pipeline.check(SIZE)
    margin = pipeline.margin(SIZE)
    assert margin == (0, 5, 3)
    for seed in range(20):
        sample = random_sample(read_for(pipeline, SIZE))
        assert pipeline(sample, SIZE, np.random.default_rng(seed)).size == SIZE
