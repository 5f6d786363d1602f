"""Checkpoints that were edited, cut off, or are another program's: used, or refused in a line."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bad_input.edited_checkpoints import Contents, deep, edited, files, weights
from bad_input.spoilers import spoil_weights
from bad_input.spoilt import CHECKPOINT
from emseg.config import Loaded, build, load
from emseg.config.schema import System
from emseg.data.target_facts import TargetFacts
from emseg.errors import UserError
from emseg.stages.built_objective import (
    begun_from,
    build_objective,
    inherit_regions,
)
from emseg.stages.devices import resolve_devices
from emseg.stages.network import load_trained
from emseg.stages.resume import check_resumable
from emseg.training import checkpoints
from emseg.training.checkpoints import read_checkpoint
from emseg.training.facts import Facts

DRAWN = 100
LONGEST = 700


@pytest.fixture(scope="module")
def contents(trained: Path) -> Contents:
    return read_checkpoint(trained / CHECKPOINT)


@pytest.fixture(scope="module")
def loaded(trained: Path) -> Loaded:
    more = ["optimization.max_steps=2"]
    return load(trained / "tiny.yaml", mode="train", overrides=more)


def uses(loaded: Loaded, contents: Contents) -> dict[str, Callable[[], Any]]:
    """What reads a checkpoint: predicting, going on with its training, beginning a new one."""
    target = build(loaded.root.target, kind="target")
    facts = Facts(
        global_step=0,
        axes="zyx",
        voxel_size=(10.0, 10.0, 10.0),
        in_channels=1,
        patch_size=(4, 4, 4),
        target=TargetFacts.of(target),
    )
    devices = resolve_devices(System(num_gpus=0, num_workers=0))
    module = build_objective(loaded, facts, devices)
    loaded.root.model["init_from"] = CHECKPOINT
    return {
        "predict": lambda: load_trained(loaded.root, Path(CHECKPOINT)),
        "go on": lambda: check_resumable(Path(CHECKPOINT), loaded.root, module, facts.target),
        "begin": lambda: (
            inherit_regions(facts, Path(CHECKPOINT)),
            begun_from(loaded.root, module),
        ),
    }


def refusal(use: Callable[[], Any]) -> str | None:
    """The line of a refusal, None where nothing is refused; any other error goes through."""
    try:
        use()
    except UserError as error:
        line = str(error)
        assert "\n" not in line and "\x1b" not in line and "weights_only" not in line, line
        assert len(line) <= LONGEST, line
        return line
    return None


def test_a_spoilt_checkpoint_is_used_or_refused_in_a_line(
    contents: Contents, loaded: Loaded
) -> None:
    ways, refused = uses(loaded, contents), 0
    sound = Path(CHECKPOINT).read_bytes()
    for seed in range(DRAWN):
        Path(CHECKPOINT).write_bytes(sound)
        spoil_weights(Path(CHECKPOINT), random.Random(seed))
        refused += sum(refusal(use) is not None for use in ways.values())
    assert DRAWN / 2 < refused < 3 * DRAWN


def test_the_unedited_checkpoint_is_used(contents: Contents, loaded: Loaded) -> None:
    assert {name: refusal(use) for name, use in uses(loaded, contents).items()} == dict.fromkeys(
        ("predict", "go on", "begin")
    )


EVERYWHERE, GOING_ON = ("predict", "go on", "begin"), ("go on",)


@pytest.mark.parametrize(
    ("path", "value", "where", "part"),
    [
        ("global_step", "../../../x", ("predict", "go on"), "global_step: '../../../x'"),
        ("global_step", -1, ("predict", "go on"), "global_step: -1"),
        ("emseg.global_step", 10**30, EVERYWHERE, "global_step=1000"),
        ("emseg", [], ("predict", "go on"), "emseg: expected a mapping"),
        ("emseg.in_channels", "1", EVERYWHERE, "emseg.in_channels: expected int, got '1'"),
        ("emseg.in_channels", 10**9, EVERYWHERE, "in_channels=1000000000 must be from 1 to 4096"),
        ("emseg.patch_size", [8, 16], EVERYWHERE, "emseg.patch_size: expected [int, int, int]"),
        ("emseg.patch_size", [2**20] * 3, EVERYWHERE, "patch_size=[1048576, "),
        ("emseg.voxel_size", (1.0, float("nan"), 1.0), EVERYWHERE, "above 0 nm"),
        ("emseg.axes", "zyq", EVERYWHERE, "axes='zyq' must be x, y and z"),
        ("emseg.trained_on", [{"image": "x", "first": [0]}], EVERYWHERE, "trained_on="),
        ("emseg.channels", deep(60), EVERYWHERE, "emseg.channels"),
        ("emseg.optimizer", torch.zeros(50, 50), EVERYWHERE, "emseg.optimizer"),
        ("epoch", None, GOING_ON, "epoch is None"),
        ("loops", {}, GOING_ON, "it has no loops.fit_loop"),
        ("optimizer_states", [], GOING_ON, "optimizer_states is no list of 1"),
        ("optimizer_states.0.state.0.exp_avg", torch.zeros(1, 2), GOING_ON, "'exp_avg'"),
        ("optimizer_states.0.param_groups.0.lr", "fast", GOING_ON, "param_groups.0.lr is 'fast'"),
        ("lr_schedulers.0.last_epoch", "x", GOING_ON, "lr_schedulers.0.last_epoch is 'x'"),
        ("PatchDataModule.next_index", -4, GOING_ON, "PatchDataModule.next_index is -4"),
        ("pytorch-lightning_version", "new", GOING_ON, "no version"),
    ],
)
def test_what_is_wrong_is_named(
    contents: Contents,
    loaded: Loaded,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    value: object,
    where: tuple[str, ...],
    part: str,
) -> None:
    keys = [int(key) if key.isdigit() else key for key in path.split(".")]
    changed = edited(contents, tuple(keys), value)
    monkeypatch.setattr(checkpoints, "load_plain", lambda _: changed)
    lines = {name: refusal(use) for name, use in uses(loaded, contents).items()}
    assert {name for name, line in lines.items() if line} == {*where}
    assert [line for line in lines.values() if line and part not in line] == []
    assert [line for line in lines.values() if line and CHECKPOINT not in line] == []


@pytest.mark.parametrize("key", ["best_model_path", "best_k_models", "last_model_path"])
def test_files_of_callbacks_lie_in_the_folder_of_checkpoints(
    contents: Contents, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    name = next(iter(contents["callbacks"]))
    outside = str(Path(contents["callbacks"][name]["dirpath"]) / ".." / "config.yaml")
    value = {outside: torch.tensor(1.0)} if key == "best_k_models" else outside
    changed = edited(contents, ("callbacks", name, key), value)
    monkeypatch.setattr(checkpoints, "load_plain", lambda _: changed)
    line = refusal(uses(loaded, contents)["go on"])
    assert line is not None and "config.yaml' outside of" in line


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("not finite", "are not all finite numbers ("),
        ("complex", "of another kind of number"),
        ("whole numbers", "of another kind of number"),
        ("sparse", "is sparse, quantized or empty"),
        ("quantized", "is sparse, quantized or empty"),
        ("on no device", "is sparse, quantized or empty"),
        ("no number", "of another shape"),
        ("flat", "of another shape"),
        ("a list", "is a list"),
        ("a mapping", "is a dict"),
    ],
)
def test_weights_that_are_none_are_named(
    contents: Contents, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    first = next(iter(contents["state_dict"]))
    value = weights(contents["state_dict"][first])[name]
    changed = edited(contents, ("state_dict", first), value)
    monkeypatch.setattr(checkpoints, "load_plain", lambda _: changed)
    line = refusal(uses(loaded, contents)["predict"])
    assert line is not None and part in line


def test_files_of_any_kind_are_used_or_refused_in_a_line(
    contents: Contents, loaded: Loaded
) -> None:
    ways, read, used = uses(loaded, contents), Path(CHECKPOINT), set()
    for name, write in files(contents).items():
        if read.is_dir():
            read.rmdir()
        read.unlink(missing_ok=True)
        write(read)
        if refusal(ways["begin"]) is None:
            used.add(name)
        if name in ("cut in half", "a class", "weights of others", "many levels"):
            refusal(ways["predict"])
    good = {"legacy", "bare weights", "weights of others", "nested weights", "numpy number"}
    assert used == {*good, "many levels", "holds itself"}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.zeros(2), "numpy._core.multiarray._reconstruct"),
        (Path("x"), "pathlib"),
        (np.median, "numpy.median"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (np.datetime64("2020-01-01"), "numpy.dtype"),
    ],
)
def test_a_refused_class_is_named_whole(value: object, named: str) -> None:
    torch.save({"state_dict": {}, "extra": value}, "x.ckpt")
    line = refusal(lambda: read_checkpoint("x.ckpt"))
    assert line is not None and f"is refused: it holds {named}" in line
    assert "float(x) or int(x)" in line


@pytest.mark.parametrize(
    "number", [np.float64(0.5), np.float32(-2), np.int64(-3), np.uint8(200), np.bool_(True)]
)
def test_numbers_of_numpy_are_read_as_numbers(number: np.generic) -> None:
    torch.save({"state_dict": {}, "best": number}, "x.ckpt")
    best = read_checkpoint("x.ckpt")["best"]
    assert best == number.item() and type(best) is type(number.item())
