"""Checks of a prediction's attributes before they are used."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emseg.errors import UserError
from emseg.volumes import Volume

EDGE_SIDES = (None, "destination", "source")
# What the values of a prediction are, by the activation that made them.
_VALUES = {"sigmoid": "probability", "scale_sigmoid": "scaled", "none": "logit"}
_DISTANCE = "distance"
VALUES = (*_VALUES.values(), _DISTANCE)
# Most decoders cannot use these.
OPTIONAL = ("activation", "heads")


def values_of(activation: str, channels: Sequence[str] | None) -> str | list[str]:
    """What the values are: one word if all channels are alike, else one for each."""
    value = _VALUES[activation]
    if channels is None or activation == "none":
        return value
    each = [_DISTANCE if one == "tanh" else value for one in channels]
    return each if len(set(each)) > 1 else each[0]


def check_attributes(predicted: Volume) -> None:
    """Raises a UserError that names the first attribute that no prediction can have."""
    where, attributes = predicted.location, predicted.attributes
    count = predicted.channels
    if count is None:
        raise UserError(f"{where} has no channels: it is not a prediction")
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "fingerprint": (lambda v: isinstance(v, str), "text"),
        "channels": (
            lambda v: _listed(v, lambda name: isinstance(name, str), count),
            f"a list of {count} names",
        ),
        "offsets": (
            lambda v: v is None or _listed(v, _is_offset, count),
            f"null or {count} lists of three whole numbers",
        ),
        "edge_side": (lambda v: v in EDGE_SIDES, "null, destination or source"),
        "activation": (
            lambda v: v in VALUES or _listed(v, lambda one: one in VALUES, count),
            f"one of {', '.join(VALUES)}, or a list of {count} of them",
        ),
        "step": (lambda v: _is_whole(v) and v >= 0, "a whole number of 0 or more"),
        "heads": (
            lambda v: v is None or _are_heads(v, count),
            f"a mapping of names to [first, stop] within {count} channels",
        ),
    }
    for name, (fits, allowed) in rules.items():
        if name not in attributes and name in OPTIONAL:
            continue
        if name not in attributes or not fits(attributes[name]):
            found = f"{attributes[name]!r:.60}" if name in attributes else "missing"
            raise UserError(f"{where}: the attribute {name} is {found}, it must be {allowed}")


def _listed(value: Any, fits: Callable[[Any], bool], count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(fits, value))


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_offset(value: Any) -> bool:
    return _listed(value, _is_whole, 3)


def _are_heads(value: Any, count: int) -> bool:
    return isinstance(value, Mapping) and all(
        _listed(span, _is_whole, 2) and 0 <= span[0] < span[1] <= count for span in value.values()
    )
