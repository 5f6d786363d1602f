"""The scores of one volume."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from emseg.config import build
from emseg.errors import UserError
from emseg.evaluation import Contingency, contingency
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
