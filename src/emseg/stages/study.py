"""The Optuna study over a decoder's arguments, on predictions made once."""

import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from emseg.blocks.child import ChildCrash, ChildWorker
from emseg.config.schema import Tune
from emseg.errors import UserError
from emseg.runs.artifacts import contents, fingerprint
from emseg.runs.run_folder import say
from emseg.stages.search_space import (
    Swept,
    own_values,
    split_space,
    start_of,
    suggest,
    with_parameters,
)
from emseg.stages.study_file import open_study, study_errors
from emseg.stages.trial import Curve, Task, score_curve, task_facts, task_inputs, warm_up


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
    sampled: each trial tries all its values and uses the best, or with a `tolerance` the middle of
    those that are nearly as good. A trial that takes more than `trial_timeout` seconds, crashes, or
    has arguments that the decoder refuses is pruned, so that the sampler never sees an invented
    score. If no trial is better than the config's own arguments, those are the best.
    """
    leaf = tasks[0].job.decoding
    path = folder / f"{config.study_name}.sqlite3"
    with warnings.catch_warnings(), ChildWorker() as child:
        # Optuna's warnings about spaces and its own features; decoders run in the child.
        warnings.simplefilter("ignore")
        study = _open_study(tasks, config, path, seed, verify=verify)
        trials = _Trials(study, path, tasks, config, child)
        trials.run()
        best, untuned = trials.best(), trials.untuned()
    assert best.value is not None
    about = study.user_attrs["fingerprint"]
    if untuned not in (None, best.value) and trials.choose(untuned, best.value) == untuned:
        return Found(leaf, untuned, untuned, about)
    tuned = with_parameters(leaf, best.user_attrs["parameters"])
    return Found(tuned, best.value, untuned, about)


def _open_study(
    tasks: Sequence[Task], config: Tune, path: Path, seed: int, *, verify: bool
) -> optuna.Study:
    facts = [task_facts(task, [*config.search_space]) for task in tasks]
    # Choices cannot change within a study; ranges can.
    choices = {key: space.choices for key, space in config.search_space.items() if space.choices}
    about = {"tasks": facts, "direction": config.direction, "choices": choices}
    if config.tolerance is not None:
        about["tolerance"] = config.tolerance
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


class _Trials:
    """The trials of a study; each stores its arguments and its scores, or why it has none."""

    def __init__(
        self,
        study: optuna.Study,
        path: Path,
        tasks: Sequence[Task],
        config: Tune,
        child: ChildWorker,
    ) -> None:
        self.study, self.path, self.tasks = study, path, tasks
        self.config, self.child = config, child
        self.choose = min if config.direction == "minimize" else max
        job = tasks[0].job
        self.leaf = job.decoding
        self.space, self.swept = split_space(config.search_space, job.decoding, job.allow)

    def run(self) -> None:
        """Adds `n_trials` trials, and prints for each its result and the time left."""
        with study_errors(self.path):
            before = sum(trial.state.is_finished() for trial in self.study.trials)
            if before:
                say(f"study {self.config.study_name}: adding to the {before} trials that are there")
            else:
                own = start_of(self.space, self.leaf)
                self.study.enqueue_trial(own, skip_if_exists=True)
        start, total = time.monotonic(), self.config.n_trials
        for done in range(1, total + 1):
            result = self._run_one()
            left = (total - done) * (time.monotonic() - start) / done
            say(f"trial {done}/{total}: {result}, {left:.0f} s left")

    def _run_one(self) -> str:
        with study_errors(self.path):
            trial = self.study.ask()
            sampled = {key: suggest(trial, key, found) for key, found in self.space.items()}
            trial.set_user_attr("sampled", sampled)
            trial.set_user_attr("swept", self.swept and list(self.swept))
            curve = self._known(sampled)
        reason = ""
        if curve is None:
            try:
                curve = self._computed(sampled, self.swept)
            except UserError as error:
                reason = str(error)
        points = [point for point in curve or [] if math.isfinite(point[1])]
        with study_errors(self.path):
            if curve is not None:
                trial.set_user_attr("curve", curve)
                reason = "" if points else f"{self.config.metric} is {curve[0][1]}"
            if reason:
                trial.set_user_attr("reason", reason)
                self.study.tell(trial, state=TrialState.PRUNED)
                return f"pruned ({reason}) {shown(sampled)}"
            value, best = self._chosen(points)
            parameters = sampled | ({self.swept[0]: value} if self.swept else {})
            trial.set_user_attr("parameters", parameters)
            self.study.tell(trial, best)
        return f"{self.config.metric} {best:.4f} {shown(parameters)}"

    def _chosen(self, points: Curve) -> tuple[float | None, float]:
        """The point with the best score, or with a tolerance the middle of the longest run."""
        best = self.choose(points, key=lambda point: point[1])
        if self.config.tolerance is None:
            return best
        near = [abs(score - best[1]) <= self.config.tolerance for _, score in points]
        runs = [[*run] for good, run in groupby(range(len(points)), near.__getitem__) if good]
        longest = max(runs, key=len)
        return points[longest[(len(longest) - 1) // 2]]

    def _known(self, sampled: Mapping[str, Any]) -> Curve | None:
        """The scores of an earlier trial with the same arguments and swept values."""
        values = self.swept[1] if self.swept else [None]
        for attributes in self._attributes():
            curve = attributes.get("curve", [])
            if attributes.get("sampled") == sampled and [value for value, _ in curve] == values:
                return curve
        return None

    def _computed(self, parameters: Mapping[str, Any], swept: Swept) -> Curve:
        try:
            # The imports of a new child do not count as time of the trial.
            self.child.call(warm_up, self.tasks)
            timeout = self.config.trial_timeout
            return self.child.call(score_curve, self.tasks, parameters, swept, timeout=timeout)
        except (TimeoutError, ChildCrash) as error:
            raise UserError(str(error)) from error

    def best(self) -> optuna.trial.FrozenTrial:
        """The best trial; UserError if none has a score."""
        if any(trial.state == TrialState.COMPLETE for trial in self.study.trials):
            return self.study.best_trial
        reasons = [found["reason"] for found in self._attributes() if "reason" in found]
        raise UserError(
            f"no trial of {self.study.study_name} came to an end (tune.trial_timeout, "
            f"tune.search_space); the last one: {reasons[-1]}"
        )

    def untuned(self) -> float | None:
        """The score of the config's own arguments: of a trial with them, else computed now."""
        sampled = own_values(self.space, self.leaf)
        value = self.swept and own_values([self.swept[0]], self.leaf)[self.swept[0]]
        same = [found for found in self._attributes() if found.get("sampled") == sampled]
        scores = [score for found in same for at, score in found.get("curve", []) if at == value]
        if not scores and not any("reason" in found for found in same):
            try:
                scores = [score for _, score in self._computed({}, None)]
            except UserError as error:
                say(f"the config's own arguments have no score: {error}")
        return scores[0] if scores and math.isfinite(scores[0]) else None

    def _attributes(self) -> list[dict[str, Any]]:
        return [trial.user_attrs for trial in self.study.get_trials(deepcopy=False)]


def shown(parameters: Mapping[str, Any]) -> str:
    """Arguments of a decoder for a line of text."""
    return ", ".join(f"{key}={value}" for key, value in parameters.items())
