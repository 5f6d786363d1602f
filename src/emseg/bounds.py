"""Rules for arguments, declared with them: `p: Annotated[float, within(0, 1)] = 0.5`."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from emseg.errors import UserError, unknown_name


@dataclass(frozen=True)
class Rule:
    """What a value must be: in words that follow "must be", and as a test of values."""

    words: str
    holds: Callable[[Any], bool]


def within(least: float, most: float = math.inf) -> Rule:
    """The rule of a number from `least` to `most`."""
    words = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
    return Rule(words, lambda value: least <= value <= most)


def finite(least: float) -> Rule:
    """The rule of a finite number from `least` on."""
    return Rule(f"finite, {least:g} or more", lambda value: least <= value < math.inf)


def above(least: float, most: float = math.inf) -> Rule:
    """The rule of a finite number above `least`, up to `most`."""
    words = f"above {least:g}" + ("" if most == math.inf else f", up to {most:g}")
    return Rule(words, lambda value: least < value <= most and math.isfinite(value))


def several(count: int, rule: Rule) -> Rule:
    """The rule of `count` values that each obey another rule."""
    return Rule(
        f"{count} numbers, each {rule.words}",
        lambda values: len(values) == count and all(map(rule.holds, values)),
    )


def interval(least: float = -math.inf, most: float = math.inf) -> Rule:
    """The rule of [lo, hi], both finite, with least <= lo <= hi <= most."""
    limits = "" if least == -math.inf else f", both {within(least, most).words}"
    return Rule(
        f"[lo, hi] with lo <= hi{limits}",
        lambda ends: (
            len(ends) == 2 and all(map(math.isfinite, ends)) and least <= ends[0] <= ends[1] <= most
        ),
    )


def or_none(rule: Rule) -> Rule:
    """The rule of a value that obeys another rule, or is None (null in YAML)."""
    return Rule(f"{rule.words}, or null", lambda value: value is None or rule.holds(value))


Fraction = Annotated[float, within(0, 1)]
# Intervals [lo, hi] that a value is drawn from.
Count = Annotated[tuple[int, int], interval(1)]
Fractions = Annotated[tuple[float, float], interval(0, 1)]
NotNegative = Annotated[tuple[float, float], interval(0)]


def check_fields(item: Any) -> None:
    """Checks the fields of a dataclass against the rules and choices in their annotations.

    Args:
        item: the instance. Its fields are annotated as `Annotated[type, rule]` or `Literal[...]`.

    Raises:
        UserError: for the first field that breaks its rule; it names class, field, value, rule.
    """
    owner = type(item).__name__
    annotations = _annotations(type(item))
    for name in (field.name for field in fields(item)):
        annotation, value = annotations[name], getattr(item, name)
        if get_origin(annotation) is Literal and value not in get_args(annotation):
            raise unknown_name(name, str(value), map(str, get_args(annotation)), where=owner)
        for rule in getattr(annotation, "__metadata__", ()):
            if not rule.holds(value):
                shown = list(value) if isinstance(value, tuple) else value
                raise UserError(f"{owner}: {name}={shown} must be {rule.words}")


@cache
def _annotations(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)
