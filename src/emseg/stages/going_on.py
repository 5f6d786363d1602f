"""Whether a training can be resumed from what a checkpoint holds besides the weights.

Lightning restores loops, optimizers, schedulers and callbacks from it without checks, and opens or
removes the files that callbacks name there.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from emseg.errors import UserError
from emseg.training.checkpoints import require_tensors
from emseg.training.objective import Objective

# A whole number, 0 or more.
COUNT = "count"
_ENDED = dict.fromkeys(("ready", "completed"), COUNT)
_STARTED = _ENDED | {"started": COUNT}
_PROCESSED = _STARTED | {"processed": COUNT}


def _both(tracked: Mapping[str, Any]) -> dict[str, Any]:
    return {"total": tracked, "current": tracked}


_BATCHES = _both(_PROCESSED) | {"is_last_batch": bool}
FIT_LOOP = {
    "state_dict": {},
    "epoch_loop.state_dict": {"_batches_that_stepped": COUNT},
    "epoch_loop.batch_progress": _BATCHES,
    "epoch_loop.scheduler_progress": _both(_ENDED),
    "epoch_loop.automatic_optimization.optim_progress": {
        "optimizer": {"step": _both(_ENDED), "zero_grad": _both(_STARTED)}
    },
    "epoch_loop.manual_optimization.optim_step_progress": _both(_ENDED),
    "epoch_loop.val_loop.batch_progress": _BATCHES,
    "epoch_progress": _both(_PROCESSED),
}
# What Lightning, our data and our callbacks write besides the weights and the facts.
STATE = {
    "pytorch-lightning_version": str,
    "epoch": COUNT,
    "loops": {"fit_loop": FIT_LOOP},
    "callbacks": {},
    "PatchDataModule": {"next_index": COUNT},
}
# The scaling of gradients for precision=16-mixed.
SCALER = dict.fromkeys(("scale", "growth_factor", "backoff_factor"), float) | {
    "growth_interval": COUNT,
    "_growth_tracker": COUNT,
}
_VERSION = re.compile(r"\d+(\.\w+)*(\+[\w.]+)?")
_MOST = 2**53


def require_resumable(
    stored: Mapping[str, Any], module: Objective, *, scaled: bool, source: Path
) -> None:
    """Raises a UserError that names the first thing from which `module` cannot be resumed.

    `scaled`: whether it scales its gradients (precision 16-mixed).
    """
    try:
        _require_form(stored, STATE, "")
        if not _VERSION.fullmatch(stored["pytorch-lightning_version"]):
            raise UserError("pytorch-lightning_version is no version")
        if scaled and "MixedPrecision" in stored:
            _require_form(stored["MixedPrecision"], SCALER, "MixedPrecision")
        fit_loop = stored["loops"]["fit_loop"]
        for state in _list(fit_loop["state_dict"].get("combined_loader", []), "combined_loader"):
            _require_form(state, {"next_index": COUNT}, "combined_loader")
        progress = fit_loop["epoch_loop.automatic_optimization.optim_progress"]
        steps = progress["optimizer"]["step"]["total"]["completed"]
        if steps != stored["global_step"]:
            raise UserError(f"loops: {steps} steps, but global_step {stored['global_step']}")
        _require_weights(stored, module)
        _require_schedule(stored, module)
        for name, state in stored["callbacks"].items():
            if str(name).startswith("ModelCheckpoint"):
                _require_files(state)
    except UserError as error:
        raise UserError(
            f"{source}: training cannot go on from it: {error} (model.init_from takes its weights "
            "into a new run)"
        ) from error


def _require_form(found: Any, form: Any, key: str) -> None:
    """Raises UserError if `found` lacks what the form has, or has it of another type."""
    if isinstance(form, Mapping):
        if not isinstance(found, Mapping):
            raise UserError(f"{key or 'it'} is no mapping")
        for name, inner in form.items():
            here = f"{key}.{name}" if key else name
            if name not in found:
                raise UserError(f"it has no {here}")
            _require_form(found[name], inner, here)
    elif form is COUNT:
        if type(found) is not int or not 0 <= found <= _MOST:
            raise UserError(f"{key} is {found!r:.80}, no whole number from 0 to {_MOST}")
    elif type(found) is not form:
        raise UserError(f"{key} is {found!r:.80}, of another type than {form.__name__}")


def _require_weights(stored: Mapping[str, Any], module: Objective) -> None:
    """The average has the names of the weights themselves; both must match the module."""
    own = module.state_dict()
    for key in ("state_dict", "current_model_state"):
        if key not in stored:
            continue
        state = stored[key]
        require_tensors(state, where=key)
        for name in {**own, **state}:
            if name not in own or name not in state:
                raise UserError(f"{key} has {'no' if name in own else 'an unknown'} {name}")
            if state[name].shape != own[name].shape:
                shapes = f"{list(state[name].shape)} for {list(own[name].shape)}"
                raise UserError(f"{key} has another shape of {name}, {shapes}")
    if "current_model_state" in stored:
        _require_form(stored, {"averaging_state": {}}, "")
        averaging = stored["averaging_state"]
        require_tensors(averaging, where="averaging_state")
        if {*averaging} != {"n_averaged"} or averaging["n_averaged"].numel() != 1:
            raise UserError("averaging_state is not the count of averaged steps alone")


def _require_schedule(stored: Mapping[str, Any], module: Objective) -> None:
    """The states must look like, and load into, a fresh optimizer and scheduler of the module."""
    made = module.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    scheduler = made["lr_scheduler"]["scheduler"] if isinstance(made, dict) else None
    (state,) = _list(stored.get("optimizer_states"), "optimizer_states", count=1)
    _require_form(state, {"state": {}}, "optimizer_states.0")
    groups = _list(state.get("param_groups"), "param_groups", count=len(optimizer.param_groups))
    for group, own in zip(groups, optimizer.state_dict()["param_groups"], strict=True):
        _require_alike(group, own, "optimizer_states.0.param_groups")
    if scheduler is not None:
        (schedule,) = _list(stored.get("lr_schedulers"), "lr_schedulers", count=1)
        _require_alike(schedule, scheduler.state_dict(), "lr_schedulers.0")
    try:
        optimizer.load_state_dict(state)
        if scheduler is not None:
            scheduler.load_state_dict(schedule)
    # Loading a broken state may raise anything.
    except Exception as error:
        raise UserError(f"its optimizer's state is damaged: {error}") from error
    _require_moments(optimizer.state)


def _require_alike(found: Any, fresh: Any, key: str) -> None:
    """Raises UserError if `found` has another structure than `fresh`; None there fits all."""
    if isinstance(fresh, Mapping):
        if not isinstance(found, Mapping):
            raise UserError(f"{key} is no mapping")
        for name, inner in fresh.items():
            if name not in found:
                raise UserError(f"it has no {key}.{name}")
            _require_alike(found[name], inner, f"{key}.{name}")
    elif isinstance(fresh, list | tuple):
        for one, inner in zip(_list(found, key, count=len(fresh)), fresh, strict=True):
            _require_alike(one, inner, key)
    elif isinstance(fresh, bool | str):
        if type(found) is not type(fresh):
            raise UserError(f"{key} is {found!r:.80}, of another type than {fresh!r}")
    elif isinstance(fresh, int | float):
        number = type(found) in (int, float)
        if not number or (math.isfinite(fresh) and not math.isfinite(found)):
            raise UserError(f"{key} is {found!r:.80}, no number")


def _require_moments(states: Mapping[Any, Any]) -> None:
    """The moments of each weight have its shape, or are one number; all weights have the same."""
    names = {tuple(sorted(map(str, state))) for state in states.values() if _mapping(state)}
    if len(names) > 1:
        raise UserError("its optimizer remembers different things of different weights")
    for weight, state in states.items():
        for name, value in state.items():
            one = type(value) in (int, float, type(None)) or (
                isinstance(value, Tensor) and value.numel() == 1
            )
            if not one and not (isinstance(value, Tensor) and value.shape == weight.shape):
                raise UserError(f"its optimizer's {name!r:.80} does not fit the weights")


def _mapping(state: Any) -> bool:
    if not isinstance(state, Mapping):
        raise UserError("its optimizer's state is no mapping")
    return bool(state)


def _require_files(state: Any) -> None:
    """The files that a callback names must be in the folder that it names."""
    _require_form(state, {"dirpath": str, "best_model_path": str, "best_k_models": {}}, "callbacks")
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


def _list(found: Any, key: str, *, count: int | None = None) -> list[Any]:
    if not isinstance(found, list | tuple) or (count is not None and len(found) != count):
        wanted = "" if count is None else f" of {count}"
        raise UserError(f"{key} is no list{wanted}")
    return list(found)
