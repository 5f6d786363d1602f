"""The Optuna study over a decoder's arguments, on predictions made once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from emseg.blocks.child import ChildWorker
from emseg.config import build
from emseg.config.schema import Space, Tune
from emseg.decoding import sweep_of
from emseg.errors import UserError, unknown_name
from emseg.stages.decode import DecodeJob, labels_by_value, labels_of
from emseg.stages.evaluate import build_metrics, read_truth, score, score_names
from emseg.stages.runs import say
from emseg.stages.sources import Source


@dataclass(frozen=True)
class Task:
    """What a trial needs in its process: where the prediction and truth are, what to count."""

    job: DecodeJob
    source: Source
    metrics: Mapping[str, dict[str, Any]]
    metric: str


def search(tasks: Sequence[Task], config: Tune, *, folder: Path, seed: int) -> dict[str, Any]:
    """The decoder's leaf with the best parameters found, over the mean of `tune.metric`.

    The study is kept in `<folder>/<study_name>.sqlite3`: a further call appends `n_trials` to it.
    A trial that outlasts `trial_timeout` seconds is pruned, so that the sampler never sees a
    made-up score. Trials that differ in the swept threshold alone share one decode.
    """
    first = tasks[0]
    space = config.search_space
    _check_space(space, first.job.decoding)
    names = score_names(build_metrics(first.metrics, allow=first.job.allow))
    if first.metric not in names:
        raise unknown_name("metric", first.metric, names, where="tune.metric")
    study = _open_study(config, folder, seed)
    before = len(study.trials)
    if before:
        say(f"study {config.study_name}: {before} trials are there, adding {config.n_trials}")
    else:
        study.enqueue_trial(_defaults(space, first.job.decoding), skip_if_exists=True)
    with ChildWorker() as child:
        study.optimize(
            lambda trial: _objective(trial, tasks, space, config, child),
            n_trials=config.n_trials,
            callbacks=[_Reporter(first.metric, before + config.n_trials)],
        )
    if not any(t.state == optuna.trial.TrialState.COMPLETE for t in study.trials):
        raise UserError(
            f"no trial of {config.study_name} finished within tune.trial_timeout="
            f"{config.trial_timeout}: allow more time, or tune on a smaller volume"
        )
    say(f"best {first.metric}: {study.best_value:.4f} with {study.best_params}")
    return with_parameters(first.job.decoding, study.best_params)


def with_parameters(decoding: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the decoder's leaf with dotted parameters set (`aff_threshold.0` is an element)."""
    changed: dict[str, Any] = {
        k: [*v] if isinstance(v, list | tuple) else v for k, v in decoding.items()
    }
    for key, value in parameters.items():
        name, _, index = key.partition(".")
        if index:
            changed[name][int(index)] = value
        else:
            changed[name] = value
    return changed


def decode_and_score(
    task: Task, parameters: Mapping[str, Any], swept: tuple[str, list[float]] | None
) -> dict[float | None, float]:
    """The score for each swept value (under None without a sweep). Runs in the child process."""
    job = replace(task.job, decoding=with_parameters(task.job.decoding, parameters))
    labelled = labels_by_value(job, *swept) if swept else [(None, labels_of(job))]
    truth, metrics = read_truth(task.source), build_metrics(task.metrics, allow=job.allow)
    voxel_size = task.source.image.voxel_size
    return {
        value: float(score(labels, truth, metrics=metrics, voxel_size=voxel_size)[task.metric])
        for value, labels in labelled
    }


def _objective(
    trial: optuna.Trial,
    tasks: Sequence[Task],
    space: Mapping[str, Space],
    config: Tune,
    child: ChildWorker,
) -> float:
    parameters = {key: _suggest(trial, key, found) for key, found in space.items()}
    swept = _swept_key(tasks[0], space)
    fixed = {key: value for key, value in parameters.items() if key != swept}
    value = parameters[swept] if swept else None
    curve = _known_curve(trial.study, fixed)
    if curve is None:
        grid = (swept, _grid(space[swept])) if swept else None
        curve = _curve(tasks, fixed, grid, config.trial_timeout, child)
    trial.set_user_attr("fixed", fixed)
    trial.set_user_attr("curve", curve)
    return min(curve, key=lambda point: abs((point[0] or 0.0) - (value or 0.0)))[1]


def _curve(
    tasks: Sequence[Task],
    fixed: Mapping[str, Any],
    grid: tuple[str, list[float]] | None,
    timeout: float | None,
    child: ChildWorker,
) -> list[tuple[float | None, float]]:
    """(swept value, mean score over the volumes), or a pruned trial when time runs out."""
    try:
        runs = [child.call(decode_and_score, task, fixed, grid, timeout=timeout) for task in tasks]
    except TimeoutError as error:
        raise optuna.TrialPruned(f"longer than tune.trial_timeout={timeout} s") from error
    return [(value, sum(run[value] for run in runs) / len(runs)) for value in runs[0]]


def _known_curve(study: optuna.Study, fixed: Mapping[str, Any]) -> list | None:
    for trial in study.get_trials(deepcopy=False):
        if trial.user_attrs.get("fixed") == fixed and "curve" in trial.user_attrs:
            return trial.user_attrs["curve"]
    return None


def _swept_key(task: Task, space: Mapping[str, Space]) -> str | None:
    swept = sweep_of(build(task.job.decoding, kind="decoding", allow=task.job.allow).func)
    if swept is None or swept.argument not in space or space[swept.argument].step is None:
        return None
    return swept.argument


def _grid(found: Space) -> list[float]:
    assert found.low is not None and found.high is not None and found.step is not None
    count = int((found.high - found.low) / found.step + 1e-9) + 1
    return [found.low + index * found.step for index in range(count)]


def _suggest(trial: optuna.Trial, key: str, found: Space) -> Any:
    if found.choices is not None:
        return trial.suggest_categorical(key, found.choices)
    assert found.low is not None and found.high is not None
    if isinstance(found.low, int) and isinstance(found.high, int):
        return trial.suggest_int(
            key, found.low, found.high, step=int(found.step or 1), log=found.log
        )
    return trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)


def _check_space(space: Mapping[str, Space], decoding: Mapping[str, Any]) -> None:
    if not space:
        raise UserError("tune.search_space is empty: name the decoder's arguments to search")
    for key in space:
        name, _, index = key.partition(".")
        if name not in decoding:
            arguments = [name for name in decoding if not name.startswith("_")]
            raise unknown_name(
                "argument of the decoder", name, arguments, where="tune.search_space"
            )
        if index and not (index.isdigit() and int(index) < len(decoding[name])):
            raise UserError(f"tune.search_space.{key}: decoding.{name} has no element {index}")


def _defaults(space: Mapping[str, Space], decoding: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own arguments, tried first: the study ends no worse than it began."""
    found = {}
    for key in space:
        name, _, index = key.partition(".")
        found[key] = decoding[name][int(index)] if index else decoding[name]
    return found


def _open_study(config: Tune, folder: Path, seed: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name=config.study_name,
        storage=f"sqlite:///{folder / config.study_name}.sqlite3",
        direction=config.direction,
        sampler=optuna.samplers.TPESampler(n_startup_trials=config.n_startup_trials, seed=seed),
        load_if_exists=True,
    )


class _Reporter:
    """Says after each trial what it brought, how far the study is, and the time left."""

    def __init__(self, metric: str, total: int) -> None:
        self.metric, self.total, self.times = metric, total, []

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.duration is not None:
            self.times.append(trial.duration.total_seconds())
        left = (self.total - len(study.trials)) * sum(self.times) / max(len(self.times), 1)
        value = "pruned" if trial.value is None else f"{self.metric} {trial.value:.4f}"
        say(f"trial {trial.number + 1}/{self.total}: {value} {trial.params}, {left:.0f} s left")
