"""Rules for arguments, declared with them: `p: Annotated[float, within(0, 1)] = 0.5`."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, wraps
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from emseg.errors import UserError, unknown_name

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Rule:
    """What a value must be: in `words` that follow "must be", and as the test `holds` of values."""

    words: str
    holds: Callable[[Any], bool] = field(repr=False)


def within(least: float, most: float = math.inf) -> Rule:
    """The rule of a number from `least` to `most`, both included; infinity too without `most`."""
    words = f"{least:g} or more" if most == math.inf else f"from {least:g} to {most:g}"
    return Rule(words, lambda value: least <= value <= most)


def finite(least: float) -> Rule:
    """The rule of a finite number from `least` on."""
    return Rule(f"finite, {least:g} or more", lambda value: least <= value < math.inf)


def above(limit: float, most: float = math.inf) -> Rule:
    """The rule of a finite number above the limit, up to `most`, which is included."""
    words = f"above {limit:g}" + ("" if most == math.inf else f", up to {most:g}")
    return Rule(words, lambda value: limit < value <= most and value < math.inf)


def at_least(count: int) -> Rule:
    """The rule of a list with so many values or more."""
    return Rule(f"{count} or more values", lambda values: len(values) >= count)


def interval(least: float = -math.inf, most: float = math.inf) -> Rule:
    """The rule of [lo, hi], both finite, with least <= lo <= hi <= most."""
    limits = "" if least == -math.inf else f", both {within(least, most).words}"
    return Rule(
        f"[lo, hi] with lo <= hi{limits}",
        lambda ends: (
            len(ends) == 2 and all(map(math.isfinite, ends)) and least <= ends[0] <= ends[1] <= most
        ),
    )


Fraction = Annotated[float, within(0, 1)]
Positive = Annotated[int, within(1)]
Weight = Annotated[float, within(0)]
AboveZero = Annotated[float, above(0)]
# Intervals [lo, hi] that a value is drawn from.
Count = Annotated[tuple[int, int], interval(1)]
Fractions = Annotated[tuple[float, float], interval(0, 1)]
NotNegative = Annotated[tuple[float, float], interval(0)]


def check_fields(item: Any) -> None:
    """Checks the fields of a dataclass against the rules, choices and lengths of their annotations.

    Args:
        item: the instance. Fields are annotated with `Annotated[type, rule]`, `Literal[...]`,
            `tuple[A, B]`, and sequences, mappings and optional values of these.

    Raises:
        UserError: for the first field that breaks a rule; it names class, field, value, rule.
    """
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    _check_all(values, _annotations(type(item)), type(item).__name__)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with its arguments checked at each call as `check_fields` checks fields.

    Of a class, `__init__` is decorated.

    Raises:
        UserError: for the first argument that breaks a rule; it names function, argument, value
            and rule.
    """
    signature = inspect.signature(function)
    owner = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        _check_all(given, _annotations(function), owner)
        return function(*args, **kwargs)

    return call


@cache
def _annotations(owner: Any) -> dict[str, Any]:
    return get_type_hints(owner, include_extras=True)


def _check_all(values: Mapping[str, Any], annotations: Mapping[str, Any], owner: str) -> None:
    for name, value in values.items():
        if name in annotations:
            _check(name, value, annotations[name], owner)


def _check(name: str, value: Any, annotation: Any, owner: str) -> None:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        _check(name, value, args[0], owner)
        for rule in args[1:]:
            if not rule.holds(value):
                raise UserError(f"{owner}: {name}={_shown(value)} must be {rule.words}")
    elif origin is Literal and value not in args:
        raise unknown_name(name, str(value), map(str, args), where=owner)
    elif origin in (Union, UnionType) and value is not None:
        options = [option for option in args if option is not NoneType]
        if len(options) == 1:
            _check(name, value, options[0], owner)
    elif origin is tuple and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise UserError(f"{owner}: {name}={_shown(value)} must be {len(args)} values")
        for place, inner in enumerate(args):
            _check(f"{name}[{place}]", value[place], inner, owner)
    elif origin in (tuple, list, Sequence):
        for place, item in enumerate(value):
            _check(f"{name}[{place}]", item, args[0], owner)
    elif origin in (dict, Mapping):
        for key, item in value.items():
            _check(f"{name}.{key}", item, args[1], owner)


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
