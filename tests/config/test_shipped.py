"""Every shipped choice composes, passes both checks, and lists what its callable takes."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emseg.config import check_targets, load
from emseg.config.choices import conf_folder, list_groups, tutorials_folder
from emseg.config.construction import resolve
from emseg.config.leaves import LEAF_GROUPS, SUPPLIED, dotted
from emseg.config.reading import read_yaml

FLAT = """
experiment_name: shipped
data: {train: {image: a.h5, label: b.h5}, test: {image: a.h5, label: b.h5}}
optimization: {max_epochs: 10}
"""
UNETR_PATCH = "data.dataloader.patch_size=[32,160,160]"
MASKED = ["model=masked_vit", "loss=masked_reconstruction", "objective=masked", UNETR_PATCH]
# What a network of some sizes alone is chosen with, a loss of named heads, an optimizer of parts.
BESIDE = {
    ("optimization/optimizer", "adamw_finetune"): ["model=unetr_aniso_em", UNETR_PATCH],
    ("objective", "masked"): MASKED,
    ("objective", "masked_adaptive"): [*MASKED, "objective=masked_adaptive"],
    ("objective", "masked_patchwise"): [*MASKED, "objective=masked_patchwise"],
    ("model", "masked_vit"): MASKED,
    ("model", "unetr_aniso"): [UNETR_PATCH],
    ("model", "unetr_aniso_em"): [UNETR_PATCH],
    ("model", "unetr"): ["data.dataloader.patch_size=[96,96,96]"],
    ("model", "swin_unetr"): ["data.dataloader.patch_size=[32,224,224]"],
    ("loss", "masked_reconstruction"): MASKED,
    ("loss", "aff_sdt"): ["target=aff9_sdt"],
    ("loss", "aff_sdt_heads"): ["target=aff9_sdt_heads"],
    ("loss", "aff_lsd"): ["target=aff3_lsd"],
}
CHOICES = [
    (group, choice)
    for group, choices in sorted(list_groups([conf_folder()]).items())
    for choice in sorted(choices)
]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_choice_passes_both_checks(tmp_path: Path, group: str, choice: str) -> None:
    config = tmp_path / "flat.yaml"
    config.write_text(FLAT)
    beside = BESIDE.get((group, choice), [])
    loaded = load(config, mode="train", overrides=[f"{group}={choice}", *beside])
    check_targets(loaded, "train")
    check_targets(loaded, "test")


@pytest.mark.parametrize(
    ("group", "choice"), [(group, choice) for group, choice in CHOICES if group in LEAF_GROUPS]
)
def test_leaf_file_lists_every_argument(group: str, choice: str) -> None:
    body = read_yaml(conf_folder() / group / f"{choice}.yaml")
    if "defaults" in body:
        pytest.skip("inherits another file of the group")
    supplied = set(SUPPLIED[dotted(group)])
    for place, node in _leaves(body, choice):
        target = resolve(node["_target_"], key=place)
        if not target.__module__.startswith("emseg."):
            continue
        takes = set(inspect.signature(target).parameters)
        given = node.keys() - {"_target_"}
        assert given <= takes - supplied, place
        assert takes - supplied <= given, place


@pytest.mark.parametrize(
    "tutorial", sorted(tutorials_folder().rglob("*.yaml")), ids=lambda path: path.stem
)
def test_tutorial_passes_both_checks_in_its_modes(tutorial: Path) -> None:
    loaded = load(tutorial, mode="train", overrides=[])
    check_targets(loaded, "train")
    # Of a pretraining nothing is predicted.
    if resolve(loaded.root.objective["_target_"], key="objective").of_target:
        check_targets(load(tutorial, mode="test", overrides=[]), "test")


def _leaves(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield place, node
        for key, value in node.items():
            yield from _leaves(value, f"{place}.{key}")
