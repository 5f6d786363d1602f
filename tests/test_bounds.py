"""Values held against the rules that are declared beside them."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from emseg.bounds import Fraction, Positive, Rule, above, check_fields, checked, interval, within
from emseg.errors import UserError

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("rule", "words", "good", "bad"),
    [
        (within(0, 1), "from 0 to 1", [0, 0.5, 1], [-0.1, 1.1, NAN, INF]),
        (within(1), "1 or more", [1, 2.5, INF], [0.9, -INF, NAN]),
        (above(0), "above 0", [0.1, 9], [0, -1, NAN, INF]),
        (interval(), "[lo, hi] with lo <= hi", [(-9, 9), [2, 2]], [(2, 1), (0, INF), (NAN, 1)]),
        (
            interval(0, 1),
            "[lo, hi] with lo <= hi, both from 0 to 1",
            [(0, 1), (0.5, 0.5)],
            [(-0.1, 1), (0, 1.1), (0.6, 0.5), (0.5,), (0, 0.5, 1), ()],
        ),
    ],
)
def test_rule_says_what_may_be(rule: Rule, words: str, good: list, bad: list) -> None:
    assert rule.words == words
    assert all(map(rule.holds, good)) and not any(map(rule.holds, bad))


@dataclass
class Settings:
    share: Fraction = 0.5
    ends: Annotated[tuple[float, float], interval(0)] = (0.0, 1.0)
    scope: Literal["volume", "section"] = "volume"
    kernel: tuple[Positive, Positive] | None = None
    widths: Annotated[Sequence[Positive], Rule("two or more", lambda v: len(v) > 1)] = (1, 2)
    weights: Mapping[str, Fraction] | None = None
    either: int | str = 0
    free: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


@checked
def settings_of(
    share: Fraction = 0.5,
    *,
    ends: Annotated[tuple[float, float], interval(0)] = (0.0, 1.0),
    scope: Literal["volume", "section"] = "volume",
    kernel: tuple[Positive, Positive] | None = None,
    widths: Annotated[Sequence[Positive], Rule("two or more", lambda v: len(v) > 1)] = (1, 2),
    weights: Mapping[str, Fraction] | None = None,
    either: int | str = 0,
    free: float = 0.0,
) -> float:
    """What share is."""
    return share


class Built:
    @checked
    def __init__(self, share: Fraction, *, kernel: tuple[Positive, Positive] | None = None) -> None:
        self.share = share


@pytest.mark.parametrize("call", [Settings, settings_of])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 2}, "{}: share=2 must be from 0 to 1"),
        ({"ends": (3, 1)}, "{}: ends=[3, 1] must be [lo, hi] with lo <= hi, both 0 or more"),
        (
            {"scope": "sections"},
            "unknown scope 'sections' in {}; did you mean 'section'? (allowed: section, volume)",
        ),
        ({"kernel": (1, 0)}, "{}: kernel[1]=0 must be 1 or more"),
        ({"kernel": (1, 2, 3)}, "{}: kernel=[1, 2, 3] must be 2 values"),
        ({"widths": [4, 0]}, "{}: widths[1]=0 must be 1 or more"),
        ({"widths": [4]}, "{}: widths=[4] must be two or more"),
        ({"weights": {"a": 0.1, "b": 3}}, "{}: weights.b=3 must be from 0 to 1"),
    ],
)
def test_value_that_breaks_its_rule_is_named(
    call: Callable[..., Any], settings: dict[str, Any], message: str
) -> None:
    call(share=1, ends=(0, 9), scope="section", kernel=[3, 3], weights={"a": 1}, free=-5)
    with pytest.raises(UserError) as error:
        call(**settings)
    assert str(error.value) == message.format(call.__name__)


def test_checked_function_stays_what_it_was() -> None:
    assert settings_of(0.25) == 0.25 and Built(1).share == 1
    assert inspect.signature(settings_of).parameters["share"].annotation == Fraction
    assert list(inspect.signature(Built).parameters) == ["share", "kernel"]
    assert settings_of.__doc__ == "What share is."
    with pytest.raises(UserError, match="^Built: share=2 must be from 0 to 1$"):
        Built(2)
    with pytest.raises(TypeError, match="shares"):
        settings_of(shares=1)
