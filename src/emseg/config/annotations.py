"""Values checked against annotations: types, choices and the rules of `emseg.bounds`.

The annotations are those of the config's dataclasses and of the callables that choices name.
"""

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from emseg.bounds import Rule
from emseg.errors import UserError, did_you_mean

_LONGEST = 200


class _Misfit(Exception):
    """The value is of another type, or breaks `rule`."""

    def __init__(self, rule: Rule | None = None) -> None:
        super().__init__()
        self.rule = rule


def conform(key: str, value: Any, annotation: Any) -> Any:
    """The value as the annotated type: lists become tuples, ints become floats.

    Args:
        key: the full name of the setting, for errors.
        value: plain containers, as YAML has them.
        annotation: types that YAML has not (arrays, callables) accept anything.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    if get_origin(annotation) is dict and isinstance(value, dict):
        text, inner = get_args(annotation)
        return {
            conform(key, name, text): conform(f"{key}.{name}", item, inner)
            for name, item in value.items()
        }
    try:
        return _fit(value, annotation)
    except _Misfit as misfit:
        if misfit.rule is not None:
            require(False, key, value, misfit.rule.words)
        texts = [text for text in _literals(annotation) if isinstance(text, str)]
        hint = did_you_mean(value, texts) if isinstance(value, str) else ""
        expected = _describe(annotation)
        if isinstance(value, int | float) and "text" in expected:
            hint = "; in quotes it is text"
        raise UserError(f"{key}: expected {expected}, got {_shown(value)}{hint}") from None


def require(holds: bool, key: str, value: Any, allowed: str) -> None:
    """Checks that a rule holds.

    Raises:
        UserError: begins with the key and says what is allowed.
    """
    if not holds:
        shown = list(value) if isinstance(value, tuple) else value
        raise UserError(f"{key}={_shown(shown)} must be {allowed}") from None


def typed(cls: type, node: dict[str, Any], path: str = "") -> Any:
    """An instance of the dataclass `cls` from plain containers, every value checked.

    Args:
        node: has all fields.
        path: the full name of the node, put before the field in errors, also in those of
            `__post_init__`, which begin with a field's name.

    Raises:
        UserError: a value does not fit its field.
    """
    values = {}
    for name, annotation in get_type_hints(cls, include_extras=True).items():
        here = f"{path}.{name}" if path else name
        value = node[name]
        inner = item_class(annotation)
        if is_dataclass(annotation):
            values[name] = typed(annotation, _mapping(here, value), here)
        elif inner is not None:
            values[name] = _typed_items(inner, _mapping(here, value), here)
        else:
            values[name] = conform(here, value, annotation)
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{path}.{error}" if path else str(error)) from None


def defaults(cls: type) -> dict[str, Any]:
    """The dataclass's defaults as plain containers; a field without one is '???'."""
    hints, plain = get_type_hints(cls), {}
    for item in fields(cls):
        if is_dataclass(hints[item.name]):
            plain[item.name] = defaults(hints[item.name])
        elif item.default_factory is not MISSING:
            plain[item.name] = item.default_factory()
        else:
            value = "???" if item.default is MISSING else item.default
            plain[item.name] = list(value) if isinstance(value, tuple) else value
    return plain


def item_class(annotation: Any) -> Any:
    """The dataclass of a field `dict[str, dataclass]`, None for other fields."""
    inner = get_args(annotation)[-1] if get_origin(annotation) is dict else None
    return inner if is_dataclass(inner) else None


def _typed_items(cls: type, node: dict[str, Any], path: str) -> dict[str, Any]:
    items = {}
    for key, item in node.items():
        here = f"{path}.{key}" if key else path
        if item is not None:  # null removes a named item
            items[str(key)] = typed(cls, defaults(cls) | _mapping(here, item), here)
    return items


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _mapping(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{key}: expected a mapping of keys, got {_shown(value)}")
    return value


def _fit(value: Any, annotation: Any) -> Any:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        value = _fit(value, args[0])
        for rule in annotation.__metadata__:
            if isinstance(rule, Rule) and not rule.holds(value):
                raise _Misfit(rule)
        return value
    if origin in (Union, types.UnionType):
        return _first_fit(value, args)
    if origin in (list, tuple, Sequence) and isinstance(value, list | tuple):
        return _fit_sequence(value, origin, args)
    if origin is dict and isinstance(value, dict):
        return {_fit(key, args[0]): _fit(item, args[1]) for key, item in value.items()}
    if not _is_of_type(value, annotation):
        raise _Misfit
    return float(value) if annotation is float else value


def _fit_sequence(value: list[Any] | tuple[Any, ...], origin: Any, args: tuple[Any, ...]) -> Any:
    if origin is tuple and args[-1] is not Ellipsis:
        if len(value) != len(args):
            raise _Misfit
        return tuple(map(_fit, value, args))
    kind = list if origin is list else tuple
    return kind(_fit(item, args[0]) for item in value)


def _first_fit(value: Any, options: tuple[Any, ...]) -> Any:
    rule = None
    for option in options:
        try:
            return _fit(value, option)
        except _Misfit as misfit:
            rule = rule or misfit.rule
    raise _Misfit(rule)


def _is_of_type(value: Any, annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in get_args(annotation))
    if annotation in (None, types.NoneType):
        return value is None
    if annotation in (int, float):
        numbers = (int,) if annotation is int else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    if origin in (list, tuple, Sequence, dict):
        return False
    if origin is Mapping:
        return isinstance(value, dict)
    # Types that YAML has not (generic ones, protocols) accept anything.
    if annotation is Any or not isinstance(annotation, type):
        return True
    return getattr(annotation, "_is_protocol", False) or isinstance(value, annotation)


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for arg in get_args(annotation):
            yield from _literals(arg)


def _describe(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe(args[0])
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, args))
    if origin in (list, Sequence) or (origin is tuple and args[-1] is Ellipsis):
        return f"[{_describe(args[0])}, ...]"
    if origin is tuple:
        return f"[{', '.join(map(_describe, args))}]"
    if origin in (dict, Mapping):
        return f"{{name: {_describe(args[1])}}}"
    names = {float: "number", str: "text", bool: "true or false", types.NoneType: "null"}
    return names.get(annotation) or getattr(annotation, "__name__", str(annotation))
