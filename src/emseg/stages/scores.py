"""The scores of one volume; decoders and metrics tried on toy data before hours of work."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from emseg.config import build
from emseg.config.schema import Root
from emseg.config.schema_inference import Inference
from emseg.data.labelled import check_labels
from emseg.data.target_facts import TargetFacts
from emseg.decoding.decoder import decoder_of
from emseg.decoding.stored_values import calibration_of
from emseg.errors import UserError
from emseg.evaluation import Contingency, contingency
from emseg.stages.channels import Channels
from emseg.stages.sources import Source
from emseg.volumes.places import check_on_grid
from emseg.volumes.skeletons import Skeletons

Scores = dict[str, float]


def build_metrics(
    nodes: Mapping[str, dict[str, Any]], *, allow: Sequence[str] = ()
) -> list[partial]:
    """The metrics of `evaluation.metrics`; each takes (segmentation, truth) and facts by name."""
    kind = "evaluation.metrics"
    return [build(node, kind=kind, name=f"{kind}.{k}", allow=allow) for k, node in nodes.items()]


def counts_suffice(metrics: Sequence[partial]) -> bool:
    """Whether all metrics use only counts or segments of nodes, so that `score` needs no labels."""
    return all(asks(metric, "table") or asks(metric, "node_segments") for metric in metrics)


def nodes_suffice(metrics: Sequence[partial]) -> bool:
    """Whether all metrics use only the segments of nodes."""
    return all(asks(metric, "node_segments") for metric in metrics)


def score(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    metrics: Sequence[partial],
    voxel_size: Sequence[float] | None,
    table: Contingency | None = None,
    skeletons: Skeletons | None = None,
    node_segments: np.ndarray | None = None,
) -> Scores:
    """All named scores of all metrics; UserError if two metrics return the same name.

    The contingency table is counted once, unless it is given, and passed to every metric that asks
    for `table`. The labels may be None with a table, or if metrics take `node_segments`, the
    segment of each node of the `skeletons`; UserError if a metric lacks its data.
    """
    if skeletons is not None and node_segments is None and segmentation is not None:
        node_segments = segmentation[tuple(skeletons.voxels.T)]
    _check_truth(metrics, labelled=truth is not None or table is not None, skeletons=skeletons)
    facts: dict[str, Any] = {
        "voxel_size": voxel_size,
        "table": table,
        "skeletons": skeletons,
        "node_segments": node_segments,
    }
    counted = table is None and any(asks(metric, "table") for metric in metrics)
    if counted and segmentation is not None and truth is not None:
        facts["table"] = contingency(segmentation, truth)
    scores: Scores = {}
    for metric in metrics:
        asked = {name: fact for name, fact in facts.items() if asks(metric, name)}
        named = metric(segmentation, truth, **asked)
        twice = scores.keys() & named.keys()
        if twice:
            raise UserError(f"evaluation.metrics: two metrics return '{twice.pop()}'")
        scores |= named
    return scores


def score_names(
    metrics: Sequence[partial],
    *,
    labelled: bool = True,
    skeletons: bool = True,
    voxel_size: Sequence[float] | None = (1.0, 1.0, 1.0),
) -> list[str]:
    """The names of the scores that the metrics return, found on a toy segmentation.

    UserError if a metric needs labels, skeletons or a voxel size and there are none.
    """
    toy, line = _toy()
    return list(
        score(
            toy,
            toy if labelled else None,
            metrics=metrics,
            voxel_size=voxel_size,
            skeletons=line if skeletons else None,
        )
    )


def better_when(metrics: Sequence[partial], name: str) -> Literal["minimize", "maximize"] | None:
    """The better direction of the score `name`: the true toy scores better than a wrong one.

    None if both scores are equal, or missing.
    """
    toy, line = _toy()
    wrong = np.roll(toy, (1, 1), axis=(0, 1))
    right, other = (
        score(one, toy, metrics=metrics, voxel_size=(1.0, 1.0, 1.0), skeletons=line)[name]
        for one in (toy, wrong)
    )
    if right == other or np.isnan(right) or np.isnan(other):
        return None
    return "maximize" if right > other else "minimize"


def _toy() -> tuple[np.ndarray, Skeletons]:
    """Two objects side by side on background, and a skeleton in the first."""
    toy = np.zeros((4, 4, 2), np.uint32)
    toy[:2, :2], toy[2:, :2] = 1, 2
    line = Skeletons(
        ids=np.array([1]),
        owner=np.array([0, 0]),
        voxels=np.array([[0, 0, 0], [0, 0, 1]]),
        positions=np.array([[0.0, 0, 0], [0, 0, 1]]),
        edges=np.array([[0, 1]]),
    )
    return toy, line


def asks(metric: partial, fact: str) -> bool:
    """Whether the fact is an argument of the metric."""
    return fact in inspect.signature(metric.func).parameters


def _check_truth(
    metrics: Sequence[partial], *, labelled: bool, skeletons: Skeletons | None
) -> None:
    for metric in metrics:
        needs_skeletons = asks(metric, "skeletons")
        if needs_skeletons and skeletons is None:
            raise UserError(
                f"evaluation.metrics: {metric.func.__name__} needs skeletons: set "
                "data.test.skeletons"
            )
        if not needs_skeletons and not labelled:
            raise UserError(
                f"evaluation.metrics: {metric.func.__name__} needs truth: set data.test.label"
            )


TOY_SHAPE = (4, 8, 8)


def try_decoders(
    decodings: Sequence[Mapping[str, Any]],
    sources: Sequence[Source],
    root: Root,
    *,
    allow: Sequence[str] = (),
    key: str = "",
) -> None:
    """Raises the UserError that one of the `decodings` (leaves) would raise for a prediction.

    Each is called with a toy prediction that has the values, channels and offsets of `root`. Files
    that a decoder reads are masks: without channels, with shape and axes of every image. The error
    begins with the `key` of the config that the leaves are from, if it is given.
    """
    target = TargetFacts.of(build(root.target, kind="target", allow=allow))
    about = Channels.of(target, root.inference.activation)
    channels = about.chosen(root.inference.model.selected, where="the target")
    toy = _toy_prediction(len(channels), root.inference)
    try:
        for decoding in decodings:
            files = {
                name: value
                for name, value in decoding.items()
                if name.endswith("_path") and value is not None
            }
            for name, location in files.items():
                for source in sources:
                    check_on_grid(location, source.image, what=f"decoding.{name}")
            # A toy has another shape than the files.
            leaf = {**decoding, **dict.fromkeys(files)}
            decoder = decoder_of(build(leaf, kind="decoding", allow=allow))
            voxel_size = sources[0].image.voxel_size
            asked = about.facts_for(decoder, channels, voxel_size=voxel_size, where="the target")
            calibration, prediction = calibration_of(decoding), toy
            if calibration is not None:
                calibration.check(len(channels))
                logits = about.are_logits(channels, where="the prediction")
                prediction = calibration(toy, logits=logits)
            decoder(prediction, **asked)
    except UserError as error:
        raise UserError(f"{key}: {error}" if key else str(error)) from error


def try_metrics(
    metrics: Mapping[str, dict[str, Any]], sources: Sequence[Source], *, allow: Sequence[str] = ()
) -> None:
    """Raises the UserError that one of the metrics, or a source's truth, would raise.

    The metrics (leaves) are called on toy data, with the kinds of truth that each source has.
    Truths of signed integers and skeletons are read for it, once.
    """
    built = build_metrics(metrics, allow=allow)
    score_names(built)
    for source in sources:
        if not source.has_truth:
            continue
        skeletons = source.skeletons()
        score_names(
            built,
            labelled=source.label is not None,
            skeletons=skeletons is not None,
            voxel_size=source.image.voxel_size,
        )
        if source.label is not None:
            check_labels(source.labelled())


def _toy_prediction(channels: int, inference: Inference) -> np.ndarray:
    values = np.random.default_rng(0).random((channels, *TOY_SHAPE), np.float32)
    if inference.activation == "none":
        values = 8 * values - 4
    if inference.output_dtype == "uint8":
        values = 255 * values
    return values.astype(inference.output_dtype)
