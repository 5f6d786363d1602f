"""One trial of tune: decode with some arguments and score against the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from emseg.config import build
from emseg.errors import unknown_name
from emseg.stages.decode import DecodeJob, decode_facts, labels_by_value, labels_of
from emseg.stages.evaluate import build_metrics, read_truth, score, score_names, truth_facts
from emseg.stages.sources import Source

# (value of the swept argument, score); the value is None where nothing is swept.
Curve = list[tuple[float | None, float]]


@dataclass(frozen=True)
class Task:
    """What a trial needs in its process for one volume; it travels to a child."""

    job: DecodeJob
    source: Source
    metrics: Mapping[str, dict[str, Any]]
    metric: str


def score_curve(
    tasks: Sequence[Task], parameters: Mapping[str, Any], swept: tuple[str, list[float]] | None
) -> Curve:
    """The mean score over the volumes, at each swept value."""
    runs = [_scores(task, parameters, swept) for task in tasks]
    return [(value, sum(run[value] for run in runs) / len(runs)) for value in runs[0]]


def warm_up(tasks: Sequence[Task]) -> None:
    """Nothing: the process has imported what decoding takes, so that no trial pays for it."""
    for task in tasks:
        build(task.job.decoding, kind="decoding", allow=task.job.allow)


def metric_alone(
    metrics: Mapping[str, dict[str, Any]], name: str, *, allow: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Of the metrics the one that returns the number `name`; a UserError when none does."""
    names: list[str] = []
    for key, node in metrics.items():
        own = score_names(build_metrics({key: node}, allow=allow))
        if name in own:
            return {key: node}
        names += own
    raise unknown_name("metric", name, names, where="tune.metric")


def task_facts(task: Task, searched: Sequence[str]) -> dict[str, Any]:
    """What the task's scores depend on beside the searched arguments, as plain containers."""
    fixed = with_parameters(task.job.decoding, dict.fromkeys(searched))
    return {
        "decoding": decode_facts(replace(task.job, decoding=fixed)),
        "truth": truth_facts(task.source),
        "metrics": dict(task.metrics),
        "metric": task.metric,
    }


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


def _scores(
    task: Task, parameters: Mapping[str, Any], swept: tuple[str, list[float]] | None
) -> dict[float | None, float]:
    job = replace(task.job, decoding=with_parameters(task.job.decoding, parameters))
    labelled = labels_by_value(job, *swept) if swept else [(None, labels_of(job))]
    truth, metrics = read_truth(task.source), build_metrics(task.metrics, allow=job.allow)
    voxel_size = task.source.image.voxel_size
    return {
        value: float(score(labels, truth, metrics=metrics, voxel_size=voxel_size)[task.metric])
        for value, labels in labelled
    }
