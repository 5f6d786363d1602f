"""Evaluate: segmentations against their truth, into metrics.json and a printed table."""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg.config import build
from emseg.errors import UserError
from emseg.evaluation import contingency
from emseg.stages.artifacts import FORMAT_VERSION, fingerprint, known_format
from emseg.stages.runs import say
from emseg.stages.sources import Source
from emseg.volumes import identity, open_volume, read_attributes
from emseg.volumes.atomic import replacing

Scores = dict[str, float]


def build_metrics(
    nodes: Mapping[str, dict[str, Any]], *, allow: Sequence[str] = ()
) -> list[partial]:
    """The metrics of `evaluation.metrics`, each taking (segmentation, truth) and facts by name."""
    return [build(node, kind="evaluation.metrics", allow=allow) for node in nodes.values()]


def score(
    segmentation: np.ndarray,
    truth: np.ndarray,
    *,
    metrics: Sequence[partial],
    voxel_size: Sequence[float] | None,
) -> Scores:
    """All named numbers of all metrics; two metrics that return one name are a UserError.

    The contingency table is counted once and handed to every metric that asks for `table`.
    """
    asked = {name for metric in metrics for name in inspect.signature(metric.func).parameters}
    facts: dict[str, Any] = {"voxel_size": voxel_size}
    if "table" in asked:
        facts["table"] = contingency(segmentation, truth)
    scores: Scores = {}
    for metric in metrics:
        wanted = inspect.signature(metric.func).parameters
        named = metric(segmentation, truth, **{k: v for k, v in facts.items() if k in wanted})
        twice = scores.keys() & named.keys()
        if twice:
            raise UserError(f"evaluation.metrics: two metrics return '{twice.pop()}'")
        scores |= named
    return scores


def score_names(metrics: Sequence[partial]) -> list[str]:
    """The names of the numbers that the metrics return, found on a toy segmentation."""
    toy = np.ones((2, 2, 2), np.uint32)
    toy[1] = 2
    return list(score(toy, toy, metrics=metrics, voxel_size=(1.0, 1.0, 1.0)))


def evaluate(
    segmentations: Mapping[str, Path],
    sources: Sequence[Source],
    *,
    metrics: Mapping[str, dict[str, Any]],
    folder: Path,
    context: Mapping[str, Any],
    verify: bool,
    allow: Sequence[str] = (),
    force: bool = False,
) -> dict[str, Scores]:
    """Scores per volume (and `mean` over several), also kept as a record in metrics.json.

    A record's key is the fingerprint of segmentations, truths and metrics: a second
    configuration adds a record, the same one is not computed again. `context` (decoder,
    checkpoint step, …) is stored beside the scores.
    """
    labelled = [source for source in sources if source.label is not None]
    if not labelled:
        say("no volume has a label: evaluation skipped")
        return {}
    path = folder / "metrics.json"
    kept = _read_records(path)
    key = fingerprint("evaluate", _facts(segmentations, labelled, metrics, verify=verify))
    if force or key not in kept["records"]:
        built = build_metrics(metrics, allow=allow)
        volumes = {s.name: _score_volume(segmentations[s.name], s, built) for s in labelled}
        if len(volumes) > 1:
            volumes["mean"] = _mean(list(volumes.values()))
        kept["records"][key] = {"volumes": volumes, "metrics": dict(metrics), **context}
        _write_records(path, kept)
    else:
        say(f"{path.name} holds this evaluation: not computed again")
    return kept["records"][key]["volumes"]


def table(scores: Mapping[str, Scores]) -> str:
    """The scores as text: a line a volume, a column a number."""
    names = list(next(iter(scores.values())))
    width = max(len("volume"), *(len(volume) for volume in scores))
    lines = ["  ".join([f"{'volume':{width}}", *names])]
    for volume, row in scores.items():
        numbers = [f"{float(row[name]):{len(name)}.4f}" for name in names]
        lines.append("  ".join([f"{volume:{width}}", *numbers]))
    return "\n".join(lines)


def _score_volume(segmentation: Path, source: Source, metrics: Sequence[partial]) -> Scores:
    labels, truth = open_volume(segmentation), source.label
    assert truth is not None
    if labels.shape != truth.shape:
        raise UserError(
            f"{segmentation} has shape {labels.shape}, the truth {truth.location} {truth.shape}"
        )
    return score(
        labels.read((0, 0, 0), labels.shape),
        read_truth(source),
        metrics=metrics,
        voxel_size=labels.voxel_size or truth.voxel_size,
    )


def read_truth(source: Source) -> np.ndarray:
    """The truth of a source, 0 (ignored) where it is unlabelled or outside the mask."""
    assert source.label is not None
    truth = source.label.read((0, 0, 0), source.label.shape)
    if source.config.unlabelled is not None:
        truth[truth == source.config.unlabelled] = 0
    if source.mask is not None:
        truth[source.mask.read((0, 0, 0), source.mask.shape) == 0] = 0
    return truth


def _mean(rows: Sequence[Scores]) -> Scores:
    return {name: float(np.mean([float(row[name]) for row in rows])) for name in rows[0]}


def _facts(
    segmentations: Mapping[str, Path],
    sources: Sequence[Source],
    metrics: Mapping[str, Any],
    *,
    verify: bool,
) -> dict[str, Any]:
    volumes = {}
    for source in sources:
        assert source.label is not None
        volumes[source.name] = {
            "segmentation": _identity_of(segmentations[source.name], verify=verify),
            "truth": identity(source.label.location, verify=verify),
            "mask": source.mask and identity(source.mask.location, verify=verify),
            "unlabelled": source.config.unlabelled,
            "range": source.config.range and list(source.config.range),
        }
    return {"volumes": volumes, "metrics": dict(metrics)}


def _identity_of(segmentation: Path, *, verify: bool) -> Any:
    # A segmentation from elsewhere has no fingerprint of ours.
    own = read_attributes(segmentation).get("fingerprint")
    return own or identity(segmentation, verify=verify)


def _read_records(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"format_version": FORMAT_VERSION, "records": {}}
    try:
        kept = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON any more ({error}); move it away") from error
    known_format(path, kept)
    return kept


def _write_records(path: Path, kept: Mapping[str, Any]) -> None:
    with replacing(path) as partial_path:
        partial_path.write_text(json.dumps(_plain(kept), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """JSON has no inf and nan: they are written as the strings that float() reads."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
