"""Plain containers merged, and the difference of two."""

import copy
import re
from dataclasses import fields
from typing import Any

from emseg.config.schema_data import VolumeConfig
from emseg.errors import UserError

SPLITS = ("train", "val", "test", "unlabelled")
_VOLUME_KEYS = {item.name for item in fields(VolumeConfig)}


def merge(
    base: dict[str, Any], delta: dict[str, Any], path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`delta` over `base`: mappings merge key by key, anything else is replaced.

    As in OmegaConf, a mapping over a reference (`${data.train}`) merges with its value. One volume
    over several named ones (or the reverse) under `data.<split>` replaces them, and so do choices
    over a range (or the reverse) in a search space; `path` is the key of both.
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
