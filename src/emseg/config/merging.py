"""Settings merged: files over files, and values of the command line over both."""

import copy
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from emseg.config.chain import PROFILES, Choice
from emseg.config.reading import read_word
from emseg.config.schema_data import VolumeConfig
from emseg.errors import UserError

SPLITS = ("train", "val", "test", "unlabelled")
_VOLUME_KEYS = {item.name for item in fields(VolumeConfig)}


@dataclass(frozen=True)
class Override:
    """One value for the key at `path`."""

    path: tuple[str, ...]
    value: Any

    @property
    def delta(self) -> dict[str, Any]:
        """The override as the nested mapping that a YAML file would hold."""
        node = self.value
        for part in reversed(self.path):
            node = {part: node}
        return node


def merge(
    base: dict[str, Any], delta: dict[str, Any], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`delta` over `base`: mappings merge key by key, anything else is replaced.

    As in OmegaConf, a mapping over a reference (`${data.train}`) merges with its value. One volume
    over several named ones (or the reverse) under `data.<split>` replaces them, and so do choices
    over a range (or the reverse) in a search space.

    Args:
        path: the key of both.
    """
    return _merge(base, delta, path, base)


def dereference(root: dict[str, Any], value: Any) -> Any:
    """A copy of the mapping that a reference `${a.b}` names; any other value as it is."""
    match = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
    node: Any = root
    for part in match[1].split(".") if match else ():
        node = node.get(part) if isinstance(node, dict) else None
    return copy.deepcopy(node) if match and isinstance(node, dict) else value


def difference(base: Any, changed: Any, path: tuple[str, ...] = ()) -> Any:
    """The smallest mapping that, merged over `base`, gives `changed`."""
    delta = {}
    for key, value in changed.items():
        old, here = base.get(key), (*path, key)
        if key in base and old == value:
            continue
        both = isinstance(old, dict) and isinstance(value, dict)
        nested = both and not _other_kind(old, value, here)
        delta[key] = difference(old, value, here) if nested else value
    return delta


def named_volumes(key: str, node: Any) -> Any:
    """The volumes of one split by name (null: none); a single unnamed one has the name ""."""
    if node is None:
        return {}
    if not isinstance(node, dict) or not is_volume(node):
        return node
    names = [name for name, value in node.items() if isinstance(value, dict)]
    if names:
        raise UserError(
            f"{key}: holds volumes by name ({', '.join(names)}) beside keys of one volume"
        )
    return {"": node}


def is_volume(node: dict[str, Any]) -> bool:
    """Whether the mapping is one volume rather than volumes by name."""
    return any(
        key in _VOLUME_KEYS or not (value is None or isinstance(value, dict))
        for key, value in node.items()
    )


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
            choices[group] = value if isinstance(value, list) else raw.strip()
        else:
            values.append(Override(tuple(key.split(".")), value))
    return choices, values


def locate(tree: dict[str, Any], override: Override) -> Override:
    """The override with its path split to match `tree`: keys of a search space contain dots."""
    node: Any = tree
    path: list[str] = []
    rest = list(override.path)
    while rest:
        counts = range(len(rest), 0, -1) if isinstance(node, dict) else ()
        count = next((count for count in counts if ".".join(rest[:count]) in node), 1)
        path.append(".".join(rest[:count]))
        node = node.get(path[-1]) if isinstance(node, dict) else None
        rest = rest[count:]
    return Override(tuple(path), override.value)


def assign(root: dict[str, Any], override: Override) -> None:
    """Sets the override's value in `root`, in place; a number reaches an element of a list."""
    node: Any = root
    key = ".".join(override.path)
    for part in override.path[:-1]:
        index = _index(node, part, key)
        if isinstance(node, dict):
            inner = node.get(part)
            node[part] = {} if inner is None else dereference(root, inner)
        node = node[index]
    last = _index(node, override.path[-1], key)
    old = node.get(last) if isinstance(node, dict) else None
    both = isinstance(old, dict) and isinstance(override.value, dict)
    node[last] = merge(old, override.value, override.path) if both else override.value


def _merge(base: Any, delta: Any, path: tuple[str, ...], root: dict[str, Any]) -> Any:
    if isinstance(delta, dict):
        base = dereference(root, base)
    if not (isinstance(base, dict) and isinstance(delta, dict)) or _other_kind(base, delta, path):
        return delta
    merged = dict(base)
    for key, value in delta.items():
        merged[key] = _merge(base[key], value, (*path, key), root) if key in base else value
    return merged


def _other_kind(base: dict[str, Any], delta: dict[str, Any], path: tuple[str, ...]) -> bool:
    if len(path) < 2 or not (base and delta):
        return False
    if path[-2] == "search_space":
        return (base.get("choices") is None) != (delta.get("choices") is None)
    return path[-2] == "data" and path[-1] in SPLITS and is_volume(base) != is_volume(delta)


def _parse(raw: str) -> Any:
    """The value of a word; lists, mappings and quoted text as Hydra reads them.

    The text itself if it is not such a list, mapping or quoted text.
    """
    text = raw.strip()
    if not text.startswith(("[", "{", "'", '"')):
        return read_word(text) if text else ""
    try:
        parsed = OverridesParser.create().parse_override(f"key={raw}")
    except HydraException:
        return raw
    except RecursionError:
        raise UserError(f"'{text[:40]} ...': nested too deeply") from None
    if parsed.is_sweep_override():
        return raw
    value = parsed.value()
    return value if isinstance(value, str) else _as_in_files(value)


def _as_in_files(value: Any) -> Any:
    """The value with infinity written as in files, `.inf`, not as in Hydra."""
    if isinstance(value, dict):
        return {str(key): _as_in_files(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_in_files(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return read_word(value) if value in (".inf", "+.inf", "-.inf") else value


def _index(node: Any, part: str, key: str) -> int | str:
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise UserError(f"{key}: {node!r} has no element or key '{part}'")
    if not part.isdigit() or int(part) >= len(node):
        raise UserError(f"{key}: '{part}' is no element of a list of {len(node)} (0 is the first)")
    return int(part)
