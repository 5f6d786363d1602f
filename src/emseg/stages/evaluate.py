"""Evaluate: segmentations against their truth, into metrics.json and a printed table."""

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.config import build
from emseg.errors import UserError
from emseg.evaluation import Contingency, contingency
from emseg.stages.artifacts import (
    FORMAT_VERSION,
    check_format,
    contents,
    fingerprint,
    same_contents,
)
from emseg.stages.runs import say
from emseg.stages.sources import Source
from emseg.stages.truth import count_overlaps, read_truth, truth_facts
from emseg.volumes import Volume, identity, open_volume
from emseg.volumes.atomic import replacing

Scores = dict[str, float]
# Characters that a line of the printed table may have.
MOST_COLUMNS = 120


def build_metrics(
    nodes: Mapping[str, dict[str, Any]], *, allow: Sequence[str] = ()
) -> list[partial]:
    """The metrics of `evaluation.metrics`, each taking (segmentation, truth) and facts by name."""
    kind = "evaluation.metrics"
    return [build(node, kind=kind, name=f"{kind}.{k}", allow=allow) for k, node in nodes.items()]


def counts_suffice(metrics: Sequence[partial]) -> bool:
    """True when every metric takes a `table` of counts, so that `score` needs no labels."""
    return all(_asks(metric, "table") for metric in metrics)


def score(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    metrics: Sequence[partial],
    voxel_size: Sequence[float] | None,
    table: Contingency | None = None,
) -> Scores:
    """All named numbers of all metrics; two metrics that return one name are a UserError.

    The contingency table is counted once, unless it is given, and handed to every metric that asks
    for `table`. The labels may be None beside a table; a metric that looks at them is a UserError
    then.
    """
    facts: dict[str, Any] = {"voxel_size": voxel_size, "table": table}
    if segmentation is None or truth is None:
        _check_counts_suffice(metrics)
    elif table is None and any(_asks(metric, "table") for metric in metrics):
        facts["table"] = contingency(segmentation, truth)
    scores: Scores = {}
    for metric in metrics:
        asked = {name: fact for name, fact in facts.items() if _asks(metric, name)}
        named = metric(segmentation, truth, **asked)
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
    force: bool,
    verify: bool,
    allow: Sequence[str] = (),
) -> dict[str, Scores]:
    """Scores per volume (and `mean` over several), also kept as a record in metrics.json.

    A record's key is the fingerprint of segmentations, truths and metrics: a second
    configuration adds a record, the same one is not computed again.
    """
    labelled = [source for source in sources if source.label is not None]
    if not labelled:
        say("no volume has a label: evaluation skipped")
        return {}
    segmented = {one.name: open_segmentation(segmentations[one.name], one) for one in labelled}
    path = folder / "metrics.json"
    kept = _read_records(path)
    key = fingerprint("evaluate", _facts(segmented, labelled, metrics))
    inputs = _inputs(segmented, labelled)
    record = kept["records"].get(key)
    if force or record is None or (verify and not same_contents(record, inputs)):
        record = {
            "volumes": _score_volumes(segmented, labelled, build_metrics(metrics, allow=allow)),
            "metrics": dict(metrics),
            "segmentations": {name: _origin(volume) for name, volume in segmented.items()},
            "truths": {source.name: truth_facts(source) for source in labelled},
            "contents": contents(inputs),
            "emseg": __version__,
        }
        kept["records"][key] = record
        _write_records(path, kept)
    else:
        say(f"{path.name} holds this evaluation: not computed again")
    return {name: _floats(scores) for name, scores in record["volumes"].items()}


def table(scores: Mapping[str, Scores]) -> str:
    """The scores as text: a line a volume, a column a number; the reverse where it is too wide."""
    names = list(next(iter(scores.values())))
    cells = [["volume", *names]]
    cells += [[volume, *(f"{row[name]:.4f}" for name in names)] for volume, row in scores.items()]
    if sum(len(name) + 2 for name in names) > MOST_COLUMNS:
        cells = [list(line) for line in zip(*cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for volume, *numbers in cells:
        aligned = [f"{text:>{width}}" for text, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([f"{volume:{widths[0]}}", *aligned]))
    return "\n".join(lines)


def open_segmentation(path: Path, source: Source) -> Volume:
    """The segmentation of a volume, lazily; a UserError unless it has the volume's shape."""
    volume, image = open_volume(path), source.image
    # A segmentation from elsewhere has no format of ours.
    if "format_version" in volume.attributes:
        check_format(path, volume.attributes)
    if volume.channels is not None:
        raise UserError(f"{volume.location} has {volume.channels} channels: it is no segmentation")
    if volume.shape != image.shape:
        raise UserError(
            f"{volume.location} has shape {volume.shape}, the volume {image.location} {image.shape}"
        )
    return volume


def _score_volumes(
    segmented: Mapping[str, Volume], sources: Sequence[Source], metrics: Sequence[partial]
) -> dict[str, Scores]:
    volumes = {one.name: _score_volume(segmented[one.name], one, metrics) for one in sources}
    if len(volumes) > 1:
        rows = list(volumes.values())
        volumes["mean"] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return volumes


def _score_volume(segmented: Volume, source: Source, metrics: Sequence[partial]) -> Scores:
    voxel_size = source.image.voxel_size
    if counts_suffice(metrics):
        table = count_overlaps(segmented, source)
        return score(None, None, metrics=metrics, voxel_size=voxel_size, table=table)
    return score(segmented[...], read_truth(source), metrics=metrics, voxel_size=voxel_size)


def _asks(metric: partial, fact: str) -> bool:
    return fact in inspect.signature(metric.func).parameters


def _check_counts_suffice(metrics: Sequence[partial]) -> None:
    for metric in metrics:
        if not _asks(metric, "table"):
            raise UserError(
                f"evaluation.metrics: {metric.func.__name__} looks at the labels themselves, a "
                "table of counts is not enough for it"
            )


def _facts(
    segmented: Mapping[str, Volume], sources: Sequence[Source], metrics: Mapping[str, Any]
) -> dict[str, Any]:
    volumes = {
        source.name: {
            "segmentation": _fingerprint_of(segmented[source.name]),
            "truth": truth_facts(source),
        }
        for source in sources
    }
    return {"volumes": volumes, "metrics": dict(metrics)}


def _inputs(segmented: Mapping[str, Volume], sources: Sequence[Source]) -> list[str]:
    """The files whose bytes no fingerprint covers: truths, masks, segmentations from elsewhere."""
    foreign = [volume for volume in segmented.values() if "fingerprint" not in volume.attributes]
    read = [volume for source in sources for volume in (source.label, source.mask) if volume]
    return [volume.location for volume in (*foreign, *read)]


def _fingerprint_of(segmentation: Volume) -> Any:
    return segmentation.attributes.get("fingerprint") or identity(segmentation.location)


def _origin(segmentation: Volume) -> dict[str, Any]:
    told = ("decoding", "select_channel", "step")
    facts = {name: segmentation.attributes.get(name) for name in told}
    return {"path": segmentation.location, **facts}


def _read_records(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"format_version": FORMAT_VERSION, "records": {}}
    try:
        kept = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON any more ({error}); move it away") from error
    check_format(path, kept)
    return kept


def _write_records(path: Path, kept: Mapping[str, Any]) -> None:
    with replacing(path) as partial_path:
        partial_path.write_text(json.dumps(_plain(kept), indent=2, allow_nan=False) + "\n")


def _floats(scores: Mapping[str, float | str]) -> Scores:
    return {name: float(value) for name, value in scores.items()}


def _plain(value: Any) -> Any:
    """The value for JSON, which has no inf and nan: they become the strings that float() reads."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
