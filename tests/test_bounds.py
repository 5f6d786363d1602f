"""Values held against the rules that are declared beside them."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from emseg.bounds import Rule, check_fields, interval, or_none, several, within
from emseg.errors import UserError

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("rule", "words", "good", "bad"),
    [
        (within(0, 1), "from 0 to 1", [0, 0.5, 1], [-0.1, 1.1, NAN, INF]),
        (within(1), "1 or more", [1, 2.5, INF], [0.9, -INF, NAN]),
        (interval(), "[lo, hi] with lo <= hi", [(-9, 9), [2, 2]], [(2, 1), (0, INF), (NAN, 1)]),
        (
            interval(0, 1),
            "[lo, hi] with lo <= hi, both from 0 to 1",
            [(0, 1), (0.5, 0.5)],
            [(-0.1, 1), (0, 1.1), (0.6, 0.5), (0.5,), (0, 0.5, 1), ()],
        ),
        (
            several(3, within(0)),
            "3 numbers, each 0 or more",
            [(0, 5, 1)],
            [(0, 5), (0, 5, -1), (0, NAN, 0), (1, 2, 3, 4)],
        ),
        (or_none(within(1)), "1 or more, or null", [None, 1], [0]),
    ],
)
def test_rule_says_what_may_be(rule: Rule, words: str, good: list, bad: list) -> None:
    assert rule.words == words
    assert all(map(rule.holds, good)) and not any(map(rule.holds, bad))


@dataclass
class Settings:
    share: Annotated[float, within(0, 1)] = 0.5
    ends: Annotated[tuple[float, float], interval(0)] = (0.0, 1.0)
    scope: Literal["volume", "section"] = "volume"
    free: float = 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 2}, "Settings: share=2 must be from 0 to 1"),
        ({"ends": (3, 1)}, "Settings: ends=[3, 1] must be [lo, hi] with lo <= hi, both 0 or more"),
        (
            {"scope": "sections"},
            "unknown scope 'sections' in Settings; did you mean 'section'? "
            "(allowed: section, volume)",
        ),
    ],
)
def test_field_that_breaks_its_rule_is_named(settings: dict[str, Any], message: str) -> None:
    check_fields(Settings(share=1, ends=(0, 9), scope="section", free=-5))
    with pytest.raises(UserError) as error:
        check_fields(Settings(**settings))
    assert str(error.value) == message
