"""The scores of a volume with some arguments of its decoder: what tuning and sweeps are made of."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg.config import build
from emseg.decoding.decoder import Nodes, Sharing, Sweeping
from emseg.evaluation import contingency
from emseg.runs.artifacts import fingerprint
from emseg.stages.decode_job import (
    DecodeJob,
    as_it_is,
    decode_facts,
    decoder_files,
    decoder_input,
    labels_by_value,
    labels_of,
    prediction_facts,
)
from emseg.stages.scores import Scores, build_metrics, counts_suffice, nodes_suffice, score
from emseg.stages.search_space import Swept, with_parameters
from emseg.stages.session import Session, decode_job
from emseg.stages.sources import Source
from emseg.stages.truth import read_truth, truth_facts, truth_files
from emseg.volumes.skeletons import Skeletons

# (value of the swept argument, score); the value is None if nothing is swept.
Curve = list[tuple[float | None, float]]


@dataclass(frozen=True)
class Task:
    """What scores of one volume need; it is sent to a child process.

    `metric` is the score to be optimized, "" for all scores.
    """

    job: DecodeJob
    source: Source
    metrics: Mapping[str, dict[str, Any]]
    metric: str


class ValueCache:
    """Computed values by key; the least recently used are removed when memory runs short."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def get(self, key: Hashable, make: Callable[[], Any], *, limit: int) -> Any:
        """The value of `key`, computed if missing; cached if all fit into `limit` bytes."""
        value = self._values.pop(key) if key in self._values else make()
        if _size(value) <= limit:
            self._values[key] = value
        while sum(map(_size, self._values.values())) > limit:
            self._values.pop(next(iter(self._values)))
        return value


# In the process of all trials: predictions, truths and fragments.
_CACHED = ValueCache()


def tasks_of(
    session: Session,
    sources: Sequence[Source],
    predictions: Mapping[str, Path],
    metrics: Mapping[str, dict[str, Any]],
    metric: str = "",
) -> list[Task]:
    """A task for each volume, with the config's decoder and the predictions as they are now."""
    jobs = {name: as_it_is(decode_job(session, path)) for name, path in predictions.items()}
    return [Task(jobs[source.name], source, metrics, metric) for source in sources]


def score_curve(tasks: Sequence[Task], parameters: Mapping[str, Any], swept: Swept) -> Curve:
    """The mean score over the volumes, at each swept value."""
    found = [(task.metric, scores_by_value(task, parameters, swept)) for task in tasks]
    return [
        (value, sum(scores[value][metric] for metric, scores in found) / len(found))
        for value in found[0][1]
    ]


def warm_up(tasks: Sequence[Task]) -> None:
    """Imports what decoding needs, so that no trial spends time on it."""
    for task in tasks:
        build(task.job.decoding, kind="decoding", allow=task.job.allow)


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
    return [*truth_files(task.source), *decoder_files(task.job.decoding)]


def scores_by_value(
    task: Task, parameters: Mapping[str, Any], swept: Swept
) -> dict[float | None, Scores]:
    """All scores of one volume with the given decoder arguments, at each swept value."""
    job = replace(task.job, decoding=with_parameters(task.job.decoding, parameters))
    metrics, source = build_metrics(task.metrics, allow=job.allow), task.source
    skeletons = _cached(job, {"skeletons": truth_facts(source)}, source.skeletons)
    facts = {
        "metrics": metrics,
        "voxel_size": source.image.voxel_size,
        "skeletons": skeletons,
    }
    counted = _counted(job, source, skeletons, swept, metrics)
    if counted is not None:
        return {
            value if swept else None: score(None, None, **facts, **own) for value, own in counted
        }
    labelled = labels_by_value(job, *swept) if swept else [(None, labels_of(job))]
    truth = None if source.label is None else read_truth(source)
    part, scores = tuple(map(slice, *source.truth_region)), {}
    for value, labels in labelled:
        nodes = None if skeletons is None else labels[tuple(skeletons.voxels.T)]
        scores[value] = score(labels[part], truth, node_segments=nodes, **facts)
    return scores


def _counted(
    job: DecodeJob,
    source: Source,
    skeletons: Skeletons | None,
    swept: Swept,
    metrics: Sequence[partial],
) -> Iterator[tuple[float, dict[str, Any]]] | None:
    """Per value the segments of nodes and the table of segments and truth, for `score`.

    None if metrics need labels, or the decoder shares no fragments. Fragments are counted against
    the truth once; the table of a segmentation made from them is that table with merged segments,
    so that the segmentation itself is not needed.
    """
    decoder, prediction, facts = decoder_input(job)
    if not isinstance(decoder, Sweeping) or not counts_suffice(metrics):
        return None
    values = swept[1] if swept else [getattr(decoder, decoder.swept)]

    def affinities() -> np.ndarray:
        return _cached(job, {"read": prediction_facts(job)}, lambda: prediction[...])

    if skeletons is not None and nodes_suffice(metrics) and isinstance(decoder, Nodes):
        found = decoder.nodes(affinities(), skeletons.voxels, values, **facts)
        return ((value, {"node_segments": nodes}) for value, nodes in found)
    key = decoder.fragments_key() if isinstance(decoder, Sharing) else None
    if not isinstance(decoder, Sharing) or key is None:
        return None
    known = truth_facts(source)

    def count() -> tuple[Any, ...]:
        labels, graph = decoder.make_fragments(affinities(), **facts)
        nodes = None if skeletons is None else labels[tuple(skeletons.voxels.T)]
        if source.label is None:
            return graph, None, nodes
        truth = _cached(job, {"truth": known}, lambda: read_truth(source))
        return graph, contingency(labels[tuple(map(slice, *source.truth_region))], truth), nodes

    about = {"prediction": prediction_facts(job), "fragments": repr(key), "truth": known}
    graph, table, nodes = _cached(job, about, count)
    return (
        (
            value,
            {
                "table": None if table is None else table.merged(names),
                "node_segments": None if nodes is None else names[nodes],
            },
        )
        for value, names in decoder.tables(graph, values)
    )


def _cached(job: DecodeJob, about: dict[str, Any], make: Callable[[], Any]) -> Any:
    return _CACHED.get(fingerprint("tune", about), make, limit=job.memory_bytes // 4)


def _size(value: Any) -> int:
    """The bytes of arrays, tables, graphs and skeletons, or of several."""
    if isinstance(value, tuple):
        return sum(map(_size, value))
    return 0 if value is None else value.nbytes
