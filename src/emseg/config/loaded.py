"""A config loaded: chain, choices, overrides and modes put together and checked.

No `_target_` is imported here; `trial_build.check_targets` does that afterwards.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from emseg.config.annotations import defaults, typed
from emseg.config.chain import MODE_SECTIONS, PROFILES, Choice, known_choices, prune, read_chain
from emseg.config.choices import compose_choices, conf_folder, list_groups
from emseg.config.construction import check_code_read
from emseg.config.keys import check_keys, check_searched, key_tree, refuse_targets
from emseg.config.leaves import CODE_READ
from emseg.config.merging import (
    SPLITS,
    Override,
    assign,
    difference,
    locate,
    merge,
    named_volumes,
    read_overrides,
)
from emseg.config.schema import Root, Space, Tune
from emseg.errors import UserError, did_you_mean, unknown_name

# The sections that are merged over the root in each mode, in order.
SECTIONS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "train": ("train",),
    "test": ("test",),
    "tune": ("test", "tune"),
}
MODES = {
    "train": "train",
    "test": "test",
    "infer": "test",
    "decode": "test",
    "evaluate": "test",
    "predict": "test",  # for a notebook, which supplies the images
    "sweep": "test",
    "tune": "tune",
}
COMMAND_LINE = "the command line"


@dataclass(frozen=True)
class Loaded:
    """A config for one mode.

    Attributes:
        root: the settings to read.
        saved: to write as a run's `config.yaml`. It serves every mode: it includes command-line
            values and the mode sections, and gets its `_target_`s from the choices in `defaults`.
        notes: lines for the user.
        choices: the choice of each group, a list where several are allowed.
        allow: module prefixes, beside ours, that `_target_` may name.
    """

    root: Root
    saved: dict[str, Any]
    notes: list[str]
    choices: dict[str, Choice]
    allow: tuple[str, ...]


def load(
    config: Path,
    *,
    mode: str,
    overrides: Sequence[str],
    conf: Sequence[Path] = (),
    allow: Sequence[str] = (),
) -> Loaded:
    """A tutorial composed for a mode, checked without importing any target.

    Args:
        config: the tutorial.
        mode: a key of `MODES`.
        overrides: as on the command line, `key=value`.
        conf: the user's folders of choices, searched before the shipped one.
        allow: module prefixes, beside ours, that `_target_` may name.

    Raises:
        UserError: any mistake, in one line.
    """
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    if config.exists() and not config.is_file():
        raise UserError(f"{config} is no config: it is a folder, a pipe or a device, not a file")
    if not config.is_file():
        beside = [file.name for file in config.parent.glob("*.yaml")]
        hint = did_you_mean(config.name, beside, before=str(config).removesuffix(config.name))
        raise UserError(f"no config file {config}{hint}")
    written = _compose(config, overrides, [*conf, conf_folder()])
    plain = {name: _resolve(written, name) for name in SECTIONS}
    missing = list(_missing(plain[MODES[mode]], ""))
    if missing:
        raise UserError(f"{config}: no value for {', '.join(missing)} (mode {mode} needs one)")
    # The other modes are checked too: a mistake in `test:` should be found before the training.
    roots = {
        name: _typed(tree, name) for name, tree in plain.items() if not any(_missing(tree, ""))
    }
    root = roots[MODES[mode]]
    _check_needs(root, mode)
    return Loaded(
        root, _saved(plain, written.choices), written.notes, written.choices, tuple(allow)
    )


def dump(saved: dict[str, Any]) -> str:
    """The YAML text of a saved config, which `load` reads back to the same values."""
    return yaml.dump(saved, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # OmegaConf reads more texts as numbers ("1e3") than the dumper expects
    style = "'" if text[:1] in set("+-.0123456789") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


@dataclass(frozen=True)
class _Written:
    """What the user wrote: the merged tree with mode sections, and the values that override it."""

    tree: dict[str, Any]
    values: list[Override]
    choices: dict[str, Choice]
    notes: list[str]


def _compose(config: Path, overrides: Sequence[str], folders: Sequence[Path]) -> _Written:
    groups = list_groups(folders)
    layers = read_chain(config, groups, folders)
    before = layers[-1].choices
    switched, values = read_overrides(overrides, before)
    choices = before | known_choices(switched, before, groups, where=COMMAND_LINE)
    composed = compose_choices(folders, choices)
    keys, notes = key_tree(composed), []
    check_keys(composed, keys, where="the group files")
    tree = merge(defaults(Root), composed)
    for layer in layers:
        body, dropped = prune(layer, choices)
        notes += dropped
        tree = merge(tree, _checked(body, keys, where=str(layer.path)))
    values = [locate(tree, value) for value in values]
    for value in values:
        _checked(value.delta, keys, where=COMMAND_LINE)
        if value.path[0] in MODE_SECTIONS:
            assign(tree, value)
    for group in PROFILES:
        tree[group]["profile"] = choices[group]
    rest = [value for value in values if value.path[0] not in MODE_SECTIONS]
    return _Written(tree, rest, choices, notes)


def _checked(body: dict[str, Any], keys: dict[str, Any], *, where: str) -> dict[str, Any]:
    refuse_targets(body, where=where)
    check_keys(body, keys, where=where)
    return body


def _resolve(written: _Written, name: str) -> dict[str, Any]:
    """The tree with the sections of `name` and the command line merged, interpolations resolved."""
    tree = copy.deepcopy(written.tree)
    sections = {section: tree.pop(section, None) or {} for section in ("train", "test")}
    study = {item.name for item in fields(Tune)}
    sections["tune"] = {key: tree["tune"].pop(key) for key in [*tree["tune"]] if key not in study}
    for section in SECTIONS[name]:
        tree = merge(tree, copy.deepcopy(sections[section]))
    for value in written.values:
        assign(tree, value)
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"a value cannot be resolved: {' '.join(str(error).split())}") from error
    assert isinstance(resolved, dict)
    return resolved


def _missing(node: Any, path: str) -> Iterator[str]:
    if node == "???":
        yield path
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _missing(value, f"{path}.{key}" if path else str(key))


def _typed(plain: dict[str, Any], name: str) -> Root:
    data = {split: named_volumes(f"data.{split}", plain["data"][split]) for split in SPLITS}
    try:
        root: Root = typed(Root, plain | {"data": plain["data"] | data})
        for kind in CODE_READ:
            check_code_read(getattr(root, kind), kind=kind)
    except UserError as error:
        raise UserError(f"{error} (mode {name})" if SECTIONS[name] else str(error)) from None
    return root


def _check_needs(root: Root, mode: str) -> None:
    """Checks settings that only some modes require."""
    if mode == "train" and root.optimization.total_steps is None:
        raise UserError(
            "optimization.max_steps or optimization.max_epochs: one must be set to train"
        )
    split = "train" if mode == "train" else "test"
    if mode not in ("predict", "decode") and not getattr(root.data, split):
        raise UserError(f"data.{split}: no volume is given, mode {mode} needs one")
    if mode == "tune":
        if not root.tune.search_space:
            raise UserError(
                "tune.search_space: empty, nothing to tune (a choice: tune=tune_waterz)"
            )
        check_searched(root.decoding, root.tune.search_space, where="tune.search_space")
    if mode == "sweep":
        check_searched(root.decoding, root.sweep.grid, where="sweep.grid")


def _saved(plain: dict[str, dict[str, Any]], choices: dict[str, Choice]) -> dict[str, Any]:
    picks = [{f"override /{group}": choice} for group, choice in choices.items()]
    root = _without_targets(plain["plain"])
    deltas = {
        name: _without_targets(difference(plain[under], plain[name]))
        for name, under in (("train", "plain"), ("test", "plain"), ("tune", "test"))
    }
    # Whole, so that it is not merged with the search space of the choice.
    spaces = root["tune"]["search_space"]
    root["tune"]["search_space"] = {k: s and defaults(Space) | s for k, s in spaces.items()}
    root["tune"] |= deltas.pop("tune")
    return {"defaults": ["/base", *picks, "_self_"]} | root | deltas


def _without_targets(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_targets(value) for key, value in node.items() if key != "_target_"}
    return [_without_targets(item) for item in node] if isinstance(node, list) else node
