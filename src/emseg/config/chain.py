"""A tutorial as the chain of files it is made of, parents first.

A tutorial is a Hydra primary config: `defaults: [/base, override /model: rsunet, _self_]`. A child
names its parent instead of `/base` (`neuron_snemi`, `../common`). The files are read here, not by
Hydra, because we must know for which choice a setting was written; Hydra would make the same of the
files (a test compares the two).

A file without `defaults`, a user's own flat YAML, is read as `defaults: [/base, _self_]`.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emseg.config.leaves import LEAF_GROUPS, dotted
from emseg.config.reading import read_yaml
from emseg.errors import UserError, did_you_mean, unknown_name

Choice = str | list[str]
# Groups whose choice may also be given by the key `profile` of the section.
PROFILES = ("system", "tune")
MODE_SECTIONS = ("train", "test", "tune")


@dataclass(frozen=True)
class Layer:
    """One file of the chain: its settings, and the choices that hold after it."""

    path: Path
    body: dict[str, Any]
    choices: dict[str, Choice]


def read_chain(config: Path, groups: dict[str, set[str]], folders: Sequence[Path]) -> list[Layer]:
    """The layers from `base.yaml`, in the first of `folders` that has one, to `config`."""
    base = _locate("/base", config, folders)
    body = read_yaml(base)
    choices = {
        group: choice
        for entry in body.pop("defaults", [])
        if isinstance(entry, dict)
        for group, choice in entry.items()
    }
    layers = [Layer(base, body, choices)]
    for path, switched, body in _walk(config, folders, ()):
        choices = choices | known_choices(switched, choices, groups, where=str(path))
        layers.append(Layer(path, body, choices))
    return layers


def known_choices(
    switched: dict[str, Choice],
    current: dict[str, Choice],
    groups: dict[str, set[str]],
    *,
    where: str,
) -> dict[str, Choice]:
    """The switched choices, checked against the groups and the existing files."""
    known = {}
    for group, choice in switched.items():
        if group not in current:
            raise unknown_name("config group", group, current, where=where)
        many = isinstance(current[group], list)
        names = choice if isinstance(choice, list) else [choice]
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"{group}={choice} in {where}: a choice is the name of a file")
        if not many and len(names) != 1:
            raise UserError(f"{group}={choice} in {where}: exactly one choice is allowed here")
        for name in names:
            if name not in groups[group]:
                raise unknown_name(f"choice of {group}", str(name), groups[group], where=where)
        known[group] = names if many else names[0]
    return known


def prune(layer: Layer, final: dict[str, Choice]) -> tuple[dict[str, Any], list[str]]:
    """The layer's settings without those for a choice that was replaced, and a line for each.

    "A choice owns its settings": also in the mode sections. Settings of no choice always stay.
    """
    body, notes = copy.deepcopy(layer.body), []
    for group in LEAF_GROUPS:
        ours, theirs = layer.choices.get(group), final.get(group)
        if isinstance(ours, list) and isinstance(theirs, list):
            lost = {f"{dotted(group)}.{name}": name for name in ours if name not in theirs}
        else:
            lost = {dotted(group): ours} if ours != theirs else {}
        for path, old in lost.items():
            modes = (body.get(mode) for mode in MODE_SECTIONS)
            roots = [body, *(mode for mode in modes if isinstance(mode, dict))]
            dropped = [name for root in roots for name in _take(root, path.split("."))]
            if dropped:
                keys = ", ".join(dict.fromkeys(dropped))
                now = theirs if isinstance(theirs, str) else ", ".join(theirs or [])
                what = f"{path}: settings of {layer.path.name} for {old} ({keys})"
                notes.append(f"{what} are dropped, as the choice is {now or 'none'}")
    return body, notes


def _walk(
    path: Path, folders: Sequence[Path], children: tuple[Path, ...]
) -> Iterator[tuple[Path, dict[str, Choice], dict[str, Any]]]:
    if path.resolve() in children:
        raise UserError(f"{path}: inherits from itself")
    body = read_yaml(path)
    parents, switched = _read_defaults(path, body.pop("defaults", ["/base", "_self_"]))
    for parent in parents:
        if parent != "/base":
            found = _locate(parent, path, folders)
            yield from _walk(found, folders, (*children, path.resolve()))
    yield path, switched | _take_profiles(path, body, switched), body


def _read_defaults(path: Path, entries: Any) -> tuple[list[str], dict[str, Choice]]:
    if not isinstance(entries, list):
        raise UserError(f"{path}: 'defaults' must be a list, got {entries!r}")
    if "_self_" in entries[:-1]:
        raise UserError(f"{path}: '_self_' must stand last in 'defaults'")
    parents, switched = [], {}
    for entry in entries:
        if isinstance(entry, str):
            parents += [entry] if entry != "_self_" else []
            continue
        pairs = [*entry.items()] if isinstance(entry, dict) else []
        key, choice = pairs[0] if len(pairs) == 1 else (str(entry), "")
        match = re.fullmatch(r"override\s+/?([\w/-]+)", str(key))
        if match is None:
            allowed = "'/base', a parent file, 'override /group: choice' or '_self_'"
            raise UserError(f"{path}: '{key}: {choice}' in 'defaults' must be {allowed}")
        switched[match[1]] = choice
    return parents, switched


def _take_profiles(
    path: Path, body: dict[str, Any], switched: dict[str, Choice]
) -> dict[str, Choice]:
    taken = {}
    for group in PROFILES:
        section = body.get(group)
        if isinstance(section, dict) and "profile" in section:
            taken[group] = section.pop("profile")
            if switched.get(group, taken[group]) != taken[group]:
                both = f"'{switched[group]}' in 'defaults' and '{taken[group]}' in {group}.profile"
                raise UserError(f"{path}: the choice of {group} is {both}")
    return taken


def _locate(entry: str, child: Path, folders: Sequence[Path]) -> Path:
    roots = folders if entry.startswith("/") else [child.parent]
    paths = [root / f"{entry.lstrip('/')}.yaml" for root in roots]
    for path in paths:
        if path.is_file():
            return path
    beside = [file.stem for file in paths[-1].parent.glob("*.yaml")]
    stem = paths[-1].stem
    hint = did_you_mean(stem, beside, before=entry.removesuffix(stem))
    raise UserError(f"{child}: no file for '{entry}' of 'defaults' ({paths[-1]}){hint}")


def _take(root: dict[str, Any], path: list[str]) -> list[str]:
    """Removes the node at `path` and names its settings."""
    for part in path[:-1]:
        root = root.get(part) if isinstance(root.get(part), dict) else {}
    taken = root.pop(path[-1], None)
    return [str(key) for key in taken] if isinstance(taken, dict) else []
