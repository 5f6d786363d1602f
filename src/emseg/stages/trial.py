"""One trial of tune: decode with some arguments and score against the truth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emseg.config import build
from emseg.decoding.decoder import Nodes, Sharing
from emseg.errors import unknown_name
from emseg.evaluation import Contingency, contingency
from emseg.runs.artifacts import fingerprint
from emseg.stages.decode_job import (
    DecodeJob,
    decode_facts,
    decoder_files,
    decoder_input,
    labels_by_value,
    labels_of,
    prediction_facts,
)
from emseg.stages.scores import (
    Scores,
    build_metrics,
    counts_suffice,
    nodes_suffice,
    score,
    score_names,
)
from emseg.stages.sources import Source
from emseg.stages.truth import read_truth, truth_facts
from emseg.stages.value_cache import ValueCache
from emseg.volumes import Volume
from emseg.volumes.skeletons import Skeletons

# (value of the swept argument, score); the value is None if nothing is swept.
Curve = list[tuple[float | None, float]]


# In the process of all trials: predictions, truths and fragments.
_CACHED = ValueCache()


@dataclass(frozen=True)
class Task:
    """What a trial needs for one volume; it is sent to a child process.

    `metric` is the score to be optimized, "" for all scores.
    """

    job: DecodeJob
    source: Source
    metrics: Mapping[str, dict[str, Any]]
    metric: str


def score_curve(
    tasks: Sequence[Task], parameters: Mapping[str, Any], swept: tuple[str, list[float]] | None
) -> Curve:
    """The mean score over the volumes, at each swept value."""
    runs = [
        {value: scores[task.metric] for value, scores in found.items()}
        for task, found in ((task, scores_by_value(task, parameters, swept)) for task in tasks)
    ]
    return [(value, sum(run[value] for run in runs) / len(runs)) for value in runs[0]]


def warm_up(tasks: Sequence[Task]) -> None:
    """Imports what decoding needs, so that no trial spends time on it."""
    for task in tasks:
        build(task.job.decoding, kind="decoding", allow=task.job.allow)


def metric_alone(
    metrics: Mapping[str, dict[str, Any]], name: str, *, allow: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Only the metric that returns the score `name`; UserError if there is none."""
    names: list[str] = []
    for key, node in metrics.items():
        own = score_names(build_metrics({key: node}, allow=allow))
        if name in own:
            return {key: node}
        names += own
    raise unknown_name("metric", name, names, where="tune.metric")


def task_facts(task: Task, searched: Sequence[str]) -> dict[str, Any]:
    """What the task's scores depend on besides the searched arguments, as plain containers."""
    fixed = with_parameters(task.job.decoding, dict.fromkeys(searched))
    return {
        "decoding": decode_facts(replace(task.job, decoding=fixed)),
        "truth": truth_facts(task.source),
        "metrics": dict(task.metrics),
        "metric": task.metric,
    }


def task_inputs(task: Task) -> list[str]:
    """The files whose bytes `task_facts` does not cover: truths, and files of the decoder."""
    source, decoding = task.source, task.job.decoding
    read = [volume.location for volume in (source.label, source.mask) if volume is not None]
    skeletons = [source.config.skeletons] if source.config.skeletons else []
    return [*read, *skeletons, *decoder_files(decoding)]


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


def scores_by_value(
    task: Task, parameters: Mapping[str, Any], swept: tuple[str, list[float]] | None
) -> dict[float | None, Scores]:
    """All scores of one volume with the given decoder arguments, at each swept value."""
    job = replace(task.job, decoding=with_parameters(task.job.decoding, parameters))
    metrics, source = build_metrics(task.metrics, allow=job.allow), task.source
    part = tuple(map(slice, *source.truth_region))
    facts = {
        "metrics": metrics,
        "voxel_size": source.image.voxel_size,
        "skeletons": _cache(
            job, {"skeletons": truth_facts(source)}, source.skeletons, _bytes_of_skeletons
        ),
    }
    if counts_suffice(metrics):
        counted = None
        if nodes_suffice(metrics) and facts["skeletons"] is not None:
            counted = _asked(job, facts["skeletons"], swept)
        if counted is None:
            counted = _counted(job, source, facts["skeletons"], swept)
        if counted is not None:
            return {value: score(None, None, **facts, **own) for value, own in counted}
    labelled = labels_by_value(job, *swept) if swept else [(None, labels_of(job))]
    truth = None if source.label is None else read_truth(source)
    skeletons, scores = facts["skeletons"], {}
    for value, labels in labelled:
        nodes = None if skeletons is None else labels[tuple(skeletons.voxels.T)]
        scores[value] = score(labels[part], truth, node_segments=nodes, **facts)
    return scores


def _asked(
    job: DecodeJob, skeletons: Skeletons, swept: tuple[str, list[float]] | None
) -> Iterator[tuple[float | None, dict[str, Any]]] | None:
    """Per value the segments of nodes, for `score`; None if the decoder needs labels for it."""
    decoder, prediction, facts = decoder_input(job)
    if not isinstance(decoder, Nodes):
        return None
    values = swept[1] if swept else [getattr(decoder, decoder.swept)]
    found = decoder.nodes(_affinities(job, prediction), skeletons.voxels, values, **facts)
    return ((value if swept else None, {"node_segments": nodes}) for value, nodes in found)


def _affinities(job: DecodeJob, prediction: Volume) -> np.ndarray:
    about = {"read": prediction_facts(job)}
    return _cache(job, about, lambda: prediction[...], lambda array: array.nbytes)


def _counted(
    job: DecodeJob,
    source: Source,
    skeletons: Skeletons | None,
    swept: tuple[str, list[float]] | None,
) -> Iterator[tuple[float | None, dict[str, Any]]] | None:
    """Per value the table of segments and truth, and the segments of nodes, for `score`.

    None if the decoder shares no fragments. Fragments are counted against the truth once; the table
    of a segmentation made from them is that table with merged segments, so that the segmentation
    itself is not needed.
    """
    decoder, prediction, facts = decoder_input(job)
    if not isinstance(decoder, Sharing) or decoder.fragments_key() is None:
        return None
    values = swept[1] if swept else [getattr(decoder, decoder.swept)]

    def count() -> tuple[Any, Contingency | None, np.ndarray | None]:
        affinities = _affinities(job, prediction)
        labels, graph = decoder.make_fragments(affinities, **facts)
        nodes = None if skeletons is None else labels[tuple(skeletons.voxels.T)]
        table = None if source.label is None else contingency(labels[part], known_truth())
        return graph, table, nodes

    def known_truth() -> np.ndarray:
        return _cache(job, {"truth": truth}, lambda: read_truth(source), lambda array: array.nbytes)

    truth = truth_facts(source)
    part = tuple(map(slice, *source.truth_region))
    about = {
        "prediction": prediction_facts(job),
        "fragments": repr(decoder.fragments_key()),
        "truth": truth,
    }
    graph, table, nodes = _cache(job, about, count, _bytes_of)
    tables = decoder.tables(graph, values)
    return (
        (
            value if swept else None,
            {
                "table": None if table is None else table.merged(names),
                "node_segments": None if nodes is None else names[nodes],
            },
        )
        for value, names in tables
    )


def _bytes_of_skeletons(found: Skeletons | None) -> int:
    return 0 if found is None else found.voxels.nbytes + found.positions.nbytes + found.edges.nbytes


def _bytes_of(parts: tuple[Any, ...]) -> int:
    return sum(part.nbytes for part in parts if part is not None)


def _cache(
    job: DecodeJob, about: dict[str, Any], make: Callable[[], Any], size: Callable[[Any], int]
) -> Any:
    return _CACHED.get(fingerprint("tune", about), make, size=size, limit=job.memory_bytes // 4)
