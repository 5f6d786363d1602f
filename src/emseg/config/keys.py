"""Every key that a config may have, and the error for any other."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from difflib import SequenceMatcher
from typing import Any, get_type_hints

from emseg.config.annotations import item_class
from emseg.config.chain import MODE_SECTIONS, PROFILES
from emseg.config.leaves import LEAF_GROUPS, dotted
from emseg.config.merging import SPLITS
from emseg.config.schema import Root
from emseg.errors import UserError, unknown_name

# A tree of allowed keys: None is a value or an open mapping, "*" any name that holds a mapping.
Tree = dict[str, Any] | None


def key_tree(composed: dict[str, Any]) -> dict[str, Any]:
    """The allowed keys: of the typed config, of the chosen files, and of the mode sections."""
    tree = _typed_tree(Root)
    for kind in map(dotted, LEAF_GROUPS):
        *parents, last = kind.split(".")
        node, leaf = tree, composed
        for part in parents:
            node, leaf = node[part], leaf.get(part, {})
        node[last] = _leaf_tree(leaf.get(last, {})) or {}
    for split in SPLITS:
        tree["data"][split] |= tree["data"][split]["*"]
    sections = {key: value for key, value in tree.items() if key != "tune"}
    # a choice holds for the whole file
    sections["system"] = {key: None for key in tree["system"] if key != "profile"}
    return tree | {"train": sections, "test": sections, "tune": tree["tune"] | sections}


def check_keys(node: dict[str, Any], tree: dict[str, Any], *, where: str) -> None:
    """Checks that all keys of `node` are in the tree.

    Raises:
        UserError: for the first unknown key, with the nearest of all keys.
    """

    def check(node: dict[str, Any], allowed: dict[str, Any], path: tuple[str, ...]) -> None:
        for key, value in node.items():
            here = (*path, str(key))
            if key in allowed:
                subtree = allowed[key]
            elif "*" in allowed and (value is None or isinstance(value, dict)):
                subtree = allowed["*"]
            else:
                raise _unknown_key(here, allowed, tree, where)
            if subtree is not None and isinstance(value, dict):
                check(value, subtree, here)
            elif _is_section(here) and not (value is None and here in (("train",), ("test",))):
                raise UserError(_no_mapping(here, value))

    check(node, tree, ())


def _unknown_key(
    path: tuple[str, ...], allowed: dict[str, Any], tree: dict[str, Any], where: str
) -> UserError:
    guess = _nearest_path(path, [*_paths(tree, ())])
    hint = f"; did you mean '{'.'.join(guess)}'?" if guess else ""
    place = ".".join(path[:-1]) or "the config"
    names = ", ".join(sorted(key for key in allowed if key not in ("*", "_target_")))
    what = f"unknown key '{'.'.join(path)}' in {where}{hint}"
    return UserError(f"{what} (allowed in {place}: {names or 'none'})")


def check_searched(leaf: Mapping[str, Any], keys: Collection[str], *, where: str) -> None:
    """Checks that the keys are arguments of the decoder or elements of one.

    Elements are dotted (`aff_threshold.0`), and refused together with the whole argument.

    Raises:
        UserError: for the first other key.
    """
    allowed = leaf.keys() - {"_target_"}
    for key in keys:
        name, dot, index = key.partition(".")
        whole = leaf.get(name)
        parts = map(str, range(len(whole))) if isinstance(whole, list | tuple) else ()
        if name not in allowed or (dot and index not in parts):
            raise unknown_name("argument of the decoder", key, allowed, where=where)
        if dot and name in keys:
            raise UserError(f"{where}: '{key}' is a part of '{name}', which is there too")


def refuse_targets(node: Any, *, where: str, path: str = "") -> None:
    """Raises UserError if `_target_` is used outside the group files."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        here = f"{path}.{key}" if path else str(key)
        if key == "_target_":
            raise UserError(f"{here} in {where}: '_target_' is allowed only in a group's file")
        if isinstance(value, dict | list):
            refuse_targets(value, where=where, path=here)


def _typed_tree(cls: type) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, annotation in get_type_hints(cls).items():
        inner = item_class(annotation)
        if is_dataclass(annotation):
            tree[name] = _typed_tree(annotation)
        else:
            tree[name] = None if inner is None else {"*": _typed_tree(inner)}
    return tree


def _leaf_tree(node: Any) -> Tree:
    if not isinstance(node, dict) or not node:
        return None
    return {str(key): _leaf_tree(value) for key, value in node.items()}


def _no_mapping(path: tuple[str, ...], value: Any) -> str:
    key, group = ".".join(path), "/".join(path)
    message = f"{key}: expected a mapping of keys, got {value!r}"
    if group in (*LEAF_GROUPS, *PROFILES):
        message += f"; a choice is {group}={value}, or 'override /{group}: {value}' in 'defaults'"
    return message


def _paths(tree: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, subtree in tree.items():
        if key not in ("*", "_target_"):
            yield (*path, key)
            yield from _paths(subtree or {}, (*path, key))


def _nearest_path(path: tuple[str, ...], known: list[tuple[str, ...]]) -> tuple[str, ...] | None:
    """The key whose last part is most like the path's; keys of the same parent are preferred."""

    def likeness(other: tuple[str, ...]) -> tuple[float, int, int]:
        ratio = SequenceMatcher(None, path[-1], other[-1]).ratio()
        shared = sum(one == two for one, two in zip(path[:-1], other[:-1], strict=False))
        return ratio + 0.15 * (path[:-1] == other[:-1]), shared, -len(other)

    best = max(known, key=likeness)
    return best if likeness(best)[0] >= 0.6 else None


def _section_paths(tree: Tree, path: tuple[str, ...]) -> Iterator[str]:
    for key, subtree in (tree or {}).items():
        if subtree is not None and "*" not in subtree:
            yield ".".join((*path, key))
            yield from _section_paths(subtree, (*path, key))


def _is_section(path: tuple[str, ...]) -> bool:
    """Whether the key must hold a mapping: sections, and nodes with `_target_`."""
    return ".".join(path[1:] if path[0] in MODE_SECTIONS else path) in _SECTIONS


_SECTIONS = {"", *_section_paths(_typed_tree(Root), ()), *map(dotted, LEAF_GROUPS)}
