"""The Optuna study over a decoder's arguments, on predictions made once."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from emseg.blocks.child import ChildCrash, ChildWorker
from emseg.config.schema import Tune
from emseg.errors import UserError
from emseg.runs.artifacts import contents, fingerprint
from emseg.runs.run_folder import say
from emseg.stages.space import Search, own_values, split_space, start_of, suggest
from emseg.stages.study_file import open_study, study_errors
from emseg.stages.trial import (
    Curve,
    Task,
    score_curve,
    task_facts,
    task_inputs,
    warm_up,
    with_parameters,
)


@dataclass(frozen=True)
class Found:
    """The decoder's leaf with the best arguments, its score, and that of the config's own.

    `untuned` is None if the config's own arguments have no score; `fingerprint` covers all that
    determines the study except the ranges of arguments.
    """

    leaf: dict[str, Any]
    score: float
    untuned: float | None
    fingerprint: str


def search(
    tasks: Sequence[Task], config: Tune, *, folder: Path, seed: int, verify: bool = False
) -> Found:
    """The best arguments of the decoder, by the mean of `tune.metric` over the tasks.

    The study is stored in `<folder>/<study_name>.sqlite3`: another call adds `n_trials` to it, or
    is refused if it is about something else (`task_facts`, with `verify` the bytes of the truth
    too). An argument that the decoder sweeps in one pass, and whose space has a step, is not
    sampled: each trial tries all its values and uses the best. A trial that takes more than
    `trial_timeout` seconds, crashes, or has arguments that the decoder refuses is pruned, so that
    the sampler never sees an invented score. If no trial is better than the config's own arguments,
    those are the best.
    """
    leaf = tasks[0].job.decoding
    wanted = split_space(config.search_space, tasks[0].job)
    path = folder / f"{config.study_name}.sqlite3"
    with warnings.catch_warnings():
        # Optuna's warnings about spaces and its own features; decoders run in the child.
        warnings.simplefilter("ignore")
        study = _open_study(tasks, config, path, seed, verify=verify)
        with study_errors(path):
            before = sum(trial.state.is_finished() for trial in study.trials)
            if before:
                say(f"study {config.study_name}: adding to the {before} trials that are there")
            else:
                study.enqueue_trial(start_of(wanted.sampled, leaf), skip_if_exists=True)
        with ChildWorker() as child:
            _optimize(study, tasks, wanted, config, child, path)
            best = _best_of(study)
            untuned = _untuned(study, tasks, wanted, config, child)
    assert best.value is not None
    about = study.user_attrs["fingerprint"]
    if untuned is not None and _is_better(untuned, best.value, config):
        return Found(leaf, untuned, untuned, about)
    parameters = best.user_attrs["parameters"]
    return Found(with_parameters(leaf, parameters), best.value, untuned, about)


def _optimize(
    study: optuna.Study,
    tasks: Sequence[Task],
    wanted: Search,
    config: Tune,
    child: ChildWorker,
    path: Path,
) -> None:
    try:
        study.optimize(
            lambda trial: _objective(trial, tasks, wanted, config, child),
            n_trials=config.n_trials,
            callbacks=[_Reporter(config)],
        )
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        why = str(getattr(error, "orig", error)).splitlines()[0]
        raise UserError(f"cannot write '{path}': {why}") from error


def _open_study(
    tasks: Sequence[Task], config: Tune, path: Path, seed: int, *, verify: bool
) -> optuna.Study:
    facts = [task_facts(task, [*config.search_space]) for task in tasks]
    # Choices cannot change within a study; ranges can.
    choices = {key: space.choices for key, space in config.search_space.items() if space.choices}
    about = {"tasks": facts, "direction": config.direction, "choices": choices}
    assert config.study_name is not None
    study = open_study(
        path,
        config.study_name,
        direction=config.direction,
        fingerprint=fingerprint("tune", about),
        contents=contents({file for task in tasks for file in task_inputs(task)}),
        searched=[*config.search_space],
        verify=verify,
    )
    # Another seed for each call: with the same one it would repeat the draws of the first.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=config.n_startup_trials, seed=seed + len(study.trials)
    )
    return study


def _objective(
    trial: optuna.Trial, tasks: Sequence[Task], wanted: Search, config: Tune, child: ChildWorker
) -> float:
    sampled = {key: suggest(trial, key, found) for key, found in wanted.sampled.items()}
    trial.set_user_attr("sampled", sampled)
    trial.set_user_attr("swept", wanted.swept and list(wanted.swept))
    curve = _known_curve(trial)
    if curve is None:
        try:
            # The imports of a new child do not count as time of the trial.
            child.call(warm_up, tasks)
            timeout = config.trial_timeout
            curve = child.call(score_curve, tasks, sampled, wanted.swept, timeout=timeout)
        except (TimeoutError, ChildCrash, UserError) as error:
            raise _pruned(trial, str(error)) from error
    trial.set_user_attr("curve", curve)
    points = [point for point in curve if math.isfinite(point[1])]
    if not points:
        raise _pruned(trial, f"{config.metric} is {curve[0][1]}")
    choose = min if config.direction == "minimize" else max
    value, best = choose(points, key=lambda point: point[1])
    trial.set_user_attr("parameters", sampled | ({wanted.swept[0]: value} if wanted.swept else {}))
    return best


def _pruned(trial: optuna.Trial, reason: str) -> optuna.TrialPruned:
    trial.set_user_attr("reason", reason)
    return optuna.TrialPruned(reason)


def _known_curve(trial: optuna.Trial) -> Curve | None:
    """The result of an earlier trial of the study with the same arguments and values."""
    own = trial.user_attrs
    for other in trial.study.get_trials(deepcopy=False):
        known = other.user_attrs
        if "curve" in known and all(known[key] == own[key] for key in ("sampled", "swept")):
            return known["curve"]
    return None


def _untuned(
    study: optuna.Study, tasks: Sequence[Task], wanted: Search, config: Tune, child: ChildWorker
) -> float | None:
    """The score of the config's own arguments: of a trial with them, else computed now."""
    leaf = tasks[0].job.decoding
    sampled = own_values(wanted.sampled, leaf)
    value = wanted.swept and own_values([wanted.swept[0]], leaf)[wanted.swept[0]]
    for trial in study.get_trials(deepcopy=False):
        if trial.user_attrs.get("sampled") != sampled:
            continue
        scores = [score for at, score in trial.user_attrs.get("curve", []) if at == value]
        if scores or trial.state == TrialState.PRUNED:
            return scores[0] if scores and math.isfinite(scores[0]) else None
    try:
        [(_, score)] = child.call(score_curve, tasks, {}, None, timeout=config.trial_timeout)
    except (TimeoutError, ChildCrash, UserError) as error:
        say(f"the config's own arguments have no score: {error}")
        return None
    return score if math.isfinite(score) else None


def _is_better(score: float, other: float, config: Tune) -> bool:
    return score < other if config.direction == "minimize" else score > other


def _best_of(study: optuna.Study) -> FrozenTrial:
    if any(trial.state == TrialState.COMPLETE for trial in study.trials):
        return study.best_trial
    reasons = [trial.user_attrs["reason"] for trial in study.trials if "reason" in trial.user_attrs]
    raise UserError(
        f"no trial of {study.study_name} came to an end (tune.trial_timeout, tune.search_space); "
        f"the last one: {reasons[-1]}"
    )


def _shown(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


class _Reporter:
    """Prints after each trial its result, the progress of the search, and the time left."""

    def __init__(self, config: Tune) -> None:
        self.config, self.done, self.seconds = config, 0, 0.0

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        attributes, total = trial.user_attrs, self.config.n_trials
        self.done += 1
        self.seconds += trial.duration.total_seconds() if trial.duration else 0.0
        left = (total - self.done) * self.seconds / self.done
        if trial.value is None:
            result = f"pruned ({attributes['reason']}) {_shown(attributes['sampled'])}"
        else:
            result = f"{self.config.metric} {trial.value:.4f} {_shown(attributes['parameters'])}"
        say(f"trial {self.done}/{total}: {result}, {left:.0f} s left")
