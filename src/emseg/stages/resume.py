"""Whether a training can go on from a checkpoint.

Lightning restores loops, optimizers, schedulers and callbacks from it without checks, and opens or
removes the files that callbacks name there.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loops.fit_loop import _FitLoop
from torch import Tensor

from emseg.config.schema import Optimization, Root
from emseg.data.target_facts import TargetFacts
from emseg.errors import UserError
from emseg.stages.network import require_same_target, trained_facts
from emseg.training.checkpoints import (
    read_checkpoint,
    require_fitting,
    require_same_loss,
    require_tensors,
)
from emseg.training.facts import Facts
from emseg.training.objective import Objective

# For checkpoints that do not name their objective: written when there was only this one.
FIRST = "emseg.training.supervised.Supervised"
ANEW = "(model.init_from takes its weights into a new run)"
MOST = 2**53
VERSION = re.compile(r"\d+(\.\w+)*(\+[\w.]+)?")


def check_resumable(
    checkpoint: Path, root: Root, module: Objective, target: TargetFacts | None
) -> None:
    """Raises UserError if training with this config cannot be resumed from the checkpoint."""
    stored = read_checkpoint(checkpoint)
    facts = trained_facts(stored, source=checkpoint)
    _require_same_objective(facts, root.objective, source=checkpoint)
    if target is not None:
        require_same_target(target, facts, source=checkpoint)
    require_same_loss(module.loss, stored, source=checkpoint)
    module.on_load_checkpoint(stored)
    states = [key for key in ("state_dict", "current_model_state") if key in stored]
    for key in states:
        require_tensors(stored[key], where=f"{checkpoint}: {key}")
        require_fitting(module, stored[key], source=checkpoint)
    schedule = root.optimization
    for kind, before, now in (
        ("optimizer", facts.optimizer, schedule.optimizer),
        ("scheduler", facts.scheduler, schedule.scheduler),
    ):
        _require_same_settings(kind, before, now, source=checkpoint)
    if "current_model_state" in states and not schedule.ema.enabled:
        raise UserError(
            f"{checkpoint} was trained with optimization.ema.enabled=true and cannot go on without "
            f"{ANEW}"
        )
    try:
        _require_whole_state(stored, module, scaled=schedule.precision == "16-mixed")
    except UserError as error:
        raise UserError(f"{checkpoint}: training cannot go on from it: {error} {ANEW}") from error
    _require_steps_left(schedule, stored["global_step"], source=checkpoint)


def _require_steps_left(schedule: Optimization, step: int, *, source: Path) -> None:
    total = schedule.total_steps
    if total is None or step < total:
        return
    steps, epochs, each = schedule.max_steps, schedule.max_epochs, schedule.n_steps_per_epoch
    limits = [f"optimization.max_steps={steps}"] * (steps == total)
    if epochs is not None and epochs * each == total:
        limits.append(f"optimization.max_epochs={epochs} (of {each} steps)")
    raise UserError(
        f"{source}: step {step} of {total} is reached already, nothing is left to train: raise "
        f"{' and '.join(limits)}"
    )


def _require_same_objective(facts: Facts, now: Mapping[str, Any], *, source: Path) -> None:
    before = facts.objective.get("_target_", FIRST)
    if before != now["_target_"]:
        raise UserError(
            f"objective: {source} was trained by {before} and cannot go on by {now['_target_']} "
            f"{ANEW}"
        )
    own, other = now.get("teacher"), facts.objective.get("teacher")
    if own != other:
        raise UserError(
            f"objective.teacher: {source} was trained with {other} and cannot go on with {own} "
            f"{ANEW}"
        )


def _require_same_settings(
    kind: str, before: Mapping[str, Any], now: Mapping[str, Any], *, source: Path
) -> None:
    """Raises UserError if settings differ: the resumed state has its own, or fits no others."""
    if not before:  # written before checkpoints stored it
        return
    for key in [*before, *now]:
        old, new = before.get(key), now.get(key)
        if old != new:
            raise UserError(
                f"optimization.{kind}.{key}: {source} was trained with {old!r} and cannot go on "
                f"with {new!r} {ANEW}"
            )


def _require_whole_state(stored: Mapping[str, Any], module: Objective, *, scaled: bool) -> None:
    """Raises UserError unless what is restored looks like that of a training that begins.

    `scaled`: whether gradients are scaled (precision 16-mixed).
    """
    made = module.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    schedules = [made["lr_scheduler"]["scheduler"]] if isinstance(made, dict) else []
    fresh: dict[str, Any] = {
        "pytorch-lightning_version": "",
        "epoch": 0,
        "loops": {"fit_loop": _FitLoop(None, max_epochs=-1).state_dict()},  # type: ignore[arg-type]
        "callbacks": {},
        "PatchDataModule": {"next_index": 0},
        "optimizer_states": [optimizer.state_dict()],
    }
    if schedules:
        fresh["lr_schedulers"] = [schedule.state_dict() for schedule in schedules]
    if scaled and "MixedPrecision" in stored:
        fresh["MixedPrecision"] = torch.amp.GradScaler("cpu").state_dict()
    if "current_model_state" in stored:
        fresh["averaging_state"] = {"n_averaged": None}
    _require_alike(stored, fresh, "")
    if not VERSION.fullmatch(stored["pytorch-lightning_version"]):
        raise UserError("pytorch-lightning_version is no version")
    if "current_model_state" in stored:
        averaging = stored["averaging_state"]
        require_tensors(averaging, where="averaging_state")
        if len(averaging) != 1 or averaging["n_averaged"].numel() != 1:
            raise UserError("averaging_state is not the count of averaged steps alone")
    fit_loop = stored["loops"]["fit_loop"]
    loaders = fit_loop["state_dict"].get("combined_loader", [])
    count = len(loaders) if isinstance(loaders, Sequence) else 0
    _require_alike(loaders, [{"next_index": 0}] * count, "combined_loader")
    progress = fit_loop["epoch_loop.automatic_optimization.optim_progress"]
    steps = progress["optimizer"]["step"]["total"]["completed"]
    if steps != stored["global_step"]:
        raise UserError(f"loops: {steps} steps, but global_step {stored['global_step']}")
    try:
        optimizer.load_state_dict(stored["optimizer_states"][0])
        for schedule, state in zip(schedules, stored.get("lr_schedulers", []), strict=False):
            schedule.load_state_dict(state)
    # Loading a broken state may raise anything.
    except Exception as error:
        raise UserError(f"its optimizer's state is damaged: {error}") from error
    _require_moments(optimizer.state)
    for name, state in stored["callbacks"].items():
        if str(name).startswith("ModelCheckpoint"):
            _require_files(state)


def _require_alike(found: Any, fresh: Any, key: str) -> None:
    """Raises UserError if `found` lacks what `fresh` has, or has another type; None fits all.

    Whole numbers are counts: 0 or more.
    """
    if isinstance(fresh, Mapping):
        if not isinstance(found, Mapping):
            raise UserError(f"{key} is no mapping")
        for name, inner in fresh.items():
            here = f"{key}.{name}" if key else str(name)
            if name not in found:
                raise UserError(f"it has no {here}")
            _require_alike(found[name], inner, here)
    elif isinstance(fresh, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(fresh):
            raise UserError(f"{key} is no list of {len(fresh)}")
        for place, (one, inner) in enumerate(zip(found, fresh, strict=True)):
            _require_alike(one, inner, f"{key}.{place}")
    elif isinstance(fresh, bool | str):
        if type(found) is not type(fresh):
            raise UserError(f"{key} is {found!r:.80}, of another type than {fresh!r}")
    elif isinstance(fresh, int):
        if type(found) is not int or not 0 <= found <= MOST:
            raise UserError(f"{key} is {found!r:.80}, no whole number from 0 to {MOST}")
    elif isinstance(fresh, float):
        number = type(found) in (int, float)
        if not number or (math.isfinite(fresh) and not math.isfinite(found)):
            raise UserError(f"{key} is {found!r:.80}, no number")


def _require_moments(states: Mapping[Any, Any]) -> None:
    """The moments of each weight have its shape, or are one number; all weights have the same."""
    names = set()
    for weight, state in states.items():
        if not isinstance(state, Mapping):
            raise UserError("its optimizer's state is no mapping")
        if state:
            names.add(tuple(sorted(map(str, state))))
        for name, value in state.items():
            one = type(value) in (int, float, type(None)) or (
                isinstance(value, Tensor) and value.numel() == 1
            )
            if not one and not (isinstance(value, Tensor) and value.shape == weight.shape):
                raise UserError(f"its optimizer's {name!r:.80} does not fit the weights")
    if len(names) > 1:
        raise UserError("its optimizer remembers different things of different weights")


def _require_files(state: Any) -> None:
    """The files that a callback names must be in the folder that it names."""
    _require_alike(state, {"dirpath": "", "best_model_path": "", "best_k_models": {}}, "callbacks")
    folder, best = Path(state["dirpath"]), state["best_k_models"]
    paths = [state.get(key, "") for key in ("best_model_path", "kth_best_model_path")]
    for path in (*paths, state.get("last_model_path", ""), *best):
        if not isinstance(path, str) or (path and Path(path).parent != folder):
            raise UserError(f"its callbacks name the file {path!r:.200} outside of {folder}")
    if paths[1] and best and paths[1] not in best:
        raise UserError(f"its callbacks do not know the file {paths[1]!r:.200}")
    scores = [state.get(key) for key in ("best_model_score", "kth_value", "current_score")]
    for score in (*scores, *best.values()):
        fine = score is None or (isinstance(score, Tensor) and score.numel() == 1)
        if not fine:
            raise UserError(f"its callbacks hold the score {score!r:.80}, which is no number")
