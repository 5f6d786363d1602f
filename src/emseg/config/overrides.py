"""Overrides from the command line: `key=value`, and `group=choice`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from emseg.config.chain import PROFILES, Choice
from emseg.config.merge import merge
from emseg.errors import UserError


@dataclass(frozen=True)
class Override:
    """One value for one dotted key."""

    key: str
    value: Any

    @property
    def delta(self) -> dict[str, Any]:
        """The override as the nested mapping that a YAML file would hold."""
        node = self.value
        for part in reversed(self.key.split(".")):
            node = {part: node}
        return node


def read_overrides(
    texts: Sequence[str], groups: Collection[str]
) -> tuple[dict[str, Choice], list[Override]]:
    """The group choices and the values in `key=value` texts; a later one wins."""
    choices: dict[str, Choice] = {}
    values = []
    for text in texts:
        key, equals, raw = text.partition("=")
        if key.startswith(("+", "~")):
            hint = (
                f"write '{key.lstrip('+~')}=value' for a key that is there (null switches it off)"
            )
            raise UserError(f"'{text}': keys are neither added nor removed here; {hint}")
        if not equals or not key:
            raise UserError(f"'{text}': an override is written key=value")
        value = _parse(raw)
        group = (
            key.removesuffix(".profile") if key in {f"{name}.profile" for name in PROFILES} else key
        )
        if group in groups:
            choices[group] = value if isinstance(value, list) else str(value)
        else:
            values.append(Override(key, value))
    return choices, values


def assign(root: dict[str, Any], override: Override) -> None:
    """Sets the override's key in `root`, in place; a number reaches an element of a list."""
    node: Any = root
    parts = override.key.split(".")
    while True:
        if isinstance(node, list):
            part, parts = _index(node, parts[0], override.key), parts[1:]
            old = node[part]
        elif isinstance(node, dict):
            part, parts = _longest_key(node, parts)
            old = node.get(part)
        else:
            raise UserError(f"{override.key}: '{node!r}' has no key '{'.'.join(parts)}'")
        if not parts:
            break
        if old is None:
            old = node[part] = {}
        node = old
    both = isinstance(old, dict) and isinstance(override.value, dict)
    node[part] = merge(old, override.value) if both else override.value


def _parse(raw: str) -> Any:
    """The value as Hydra reads it, or the text itself where that is no Hydra value."""
    try:
        parsed = OverridesParser.create().parse_override(f"key={raw}")
    except HydraException:
        return raw
    return raw if parsed.is_sweep_override() else parsed.value()


def _index(node: list[Any], part: str, key: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise UserError(f"{key}: '{part}' is no element of a list of {len(node)} (0 is the first)")
    return int(part)


def _longest_key(node: dict[str, Any], parts: list[str]) -> tuple[str, list[str]]:
    """The key of `node` that `parts` begin with: keys of a search space hold dots themselves."""
    for count in range(len(parts), 0, -1):
        joined = ".".join(parts[:count])
        if joined in node:
            return joined, parts[count:]
    return parts[0], parts[1:]
