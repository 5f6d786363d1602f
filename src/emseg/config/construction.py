"""Objects built from nodes: `_target_` resolved, arguments checked against the signature."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from emseg.config.annotations import conform
from emseg.config.leaves import (
    CODE_READ,
    CODE_READ_TYPES,
    IN_WORDS,
    ROOTS,
    SUPPLIED,
    current_name,
    is_allowed,
    is_below,
)
from emseg.errors import UserError, did_you_mean, unknown_name


def build(
    node: Mapping[str, Any],
    *,
    kind: str,
    name: str | None = None,
    allow: Sequence[str] = (),
    **supplied: Any,
) -> Any:
    """The object that a node with `_target_` describes: the target called, or a partial of it.

    Nested nodes are built first. The target is called if no required argument is missing (a model,
    a loss module, an optimizer given its `params`); otherwise a `functools.partial` waits for the
    rest (a decoder for its `prediction`).

    Args:
        node: `_target_` and arguments; keys that only code reads (`leaves.CODE_READ`) are left out.
        kind: of leaf, a key of `leaves.SUPPLIED`.
        name: the key in errors if it is not the kind (`evaluation.metrics.voi`).
        allow: module prefixes, beside ours, that `_target_` may name.
        supplied: arguments of the kind's table (`leaves.SUPPLIED`), passed on only if the target
            has arguments of these names.

    Raises:
        UserError: the target may not be used, arguments do not fit it, or it fails.
    """
    if kind not in SUPPLIED:
        raise unknown_name("kind of leaf", kind, SUPPLIED)
    for key in supplied:
        if key not in SUPPLIED[kind]:
            raise unknown_name(f"supplied argument of {kind}", key, SUPPLIED[kind])
    check_code_read(node, kind=kind)
    own = {key: value for key, value in node.items() if key not in CODE_READ.get(kind, {})}
    return _build(own, name or kind, tuple(allow), SUPPLIED[kind], supplied)


def check_code_read(node: Mapping[str, Any], *, kind: str) -> None:
    """Checks the keys that code reads from a node.

    Raises:
        UserError: one is of another type.
    """
    for key in CODE_READ.get(kind, {}):
        if key in node:
            conform(f"{kind}.{key}", node[key], CODE_READ_TYPES[key])


def resolve(target: Any, *, key: str, allow: Sequence[str] = ()) -> Callable[..., Any]:
    """The class or function that `_target_` names.

    Args:
        target: its dotted path.
        key: of the node, for errors.
        allow: module prefixes that are allowed in addition, see `leaves.is_allowed`.

    Raises:
        UserError: it does not exist or is not allowed; what is outside `leaves.ROOTS` and `allow`
            is not even imported.
    """
    refusal = f"{key}._target_: {target!r} is {IN_WORDS}"
    if not isinstance(target, str) or not is_below(target, (*ROOTS, *allow)):
        raise UserError(refusal)
    found: Callable[..., Any] = _import(current_name(target), key)
    if not is_allowed(found, allow):
        raise UserError(refusal)
    return found


def _build(
    node: Mapping[str, Any],
    key: str,
    allow: tuple[str, ...],
    reserved: tuple[str, ...] | None,
    supplied: Mapping[str, Any],
) -> Any:
    if "_target_" not in node:
        raise UserError(f"{key}: names no '_target_'; choose a file of the group")
    target = resolve(node["_target_"], key=key, allow=allow)
    arguments = {
        str(name): _build_nested(value, f"{key}.{name}", allow)
        for name, value in node.items()
        if name != "_target_"
    }
    signature = inspect.signature(target, eval_str=_is_ours(target))
    arguments = _checked(arguments, signature, key, reserved, ours=_is_ours(target))
    if reserved is not None:
        _refuse_gaps(signature, {*arguments, *reserved}, key)
    asked = {name: value for name, value in supplied.items() if _takes(signature, name)}
    try:
        signature.bind(**arguments, **asked)
    except TypeError:
        return partial(target, **arguments, **asked)
    try:
        return target(**arguments, **asked)
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise UserError(text if text.startswith(key) else f"{key}: {text}") from error


def _build_nested(value: Any, key: str, allow: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _build(value, key, allow, None, {})
        return {name: _build_nested(item, f"{key}.{name}", allow) for name, item in value.items()}
    if isinstance(value, list):
        return [_build_nested(item, f"{key}.{i}", allow) for i, item in enumerate(value)]
    return value


def _checked(
    arguments: dict[str, Any],
    signature: inspect.Signature,
    key: str,
    reserved: tuple[str, ...] | None,
    *,
    ours: bool,
) -> dict[str, Any]:
    """The arguments, converted to the annotated types if the callable is ours."""
    allowed = [name for name in signature.parameters if _takes(signature, name)]
    checked = {}
    for name, value in arguments.items():
        if name in (reserved or ()):
            raise UserError(f"{key}.{name}: is supplied by the program, remove it")
        if not _takes(signature, name):
            hint = did_you_mean(name, allowed)
            raise UserError(f"{key}.{name}: no such argument{hint} (allowed: {', '.join(allowed)})")
        parameter = signature.parameters.get(name)
        typed = ours and parameter is not None and parameter.annotation is not parameter.empty
        checked[name] = conform(f"{key}.{name}", value, parameter.annotation) if typed else value
    return checked


def _refuse_gaps(signature: inspect.Signature, given: set[str], key: str) -> None:
    for name, parameter in signature.parameters.items():
        if _takes(signature, name) and parameter.default is parameter.empty and name not in given:
            raise UserError(f"{key}.{name}: has no value and no default")


def _takes(signature: inspect.Signature, name: str) -> bool:
    parameter = signature.parameters.get(name)
    if parameter is not None:
        return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return False


def _is_ours(target: Callable[..., Any]) -> bool:
    return is_below(target.__module__, ("emseg",))


def _import(target: str, key: str) -> Any:
    """The object at a dotted path: the longest importable module, then attributes."""
    parts = target.split(".")
    for count in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:count])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and is_below(module, (error.name,)):
                continue
            raise UserError(f"{key}._target_: {target!r} needs the package {error.name}") from error
        for part in parts[count:]:
            if not hasattr(found, part):
                hint = did_you_mean(part, dir(found))
                raise UserError(f"{key}._target_: {target!r} has no '{part}'{hint}")
            found = getattr(found, part)
        return found
    raise UserError(f"{key}._target_: {target!r} cannot be imported")
