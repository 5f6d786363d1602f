"""Scores of synapses, with and without their direction."""

from collections.abc import Sequence

import numpy as np

from emseg.evaluation.matching import Overlaps, check_thresholds
from emseg.evaluation.table import Contingency, table_of


def polarity_matching(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    iou_thresholds: Sequence[float] = (0.3, 0.5),
    table: Contingency | None = None,
) -> dict[str, float]:
    """Precision, recall and F1 of synapses, and of directed synapses, for each threshold of IoU.

    In both volumes the pre-synaptic region of synapse s has the id 2 s - 1, the post-synaptic one
    2 s. A synapse is both together, and is matched as in `instance_matching`: one to one, with an
    intersection over union (IoU) of the threshold or more. A matched pair has the right direction
    if more of its common voxels have the same side (pre or post) in both than different sides.

    Args:
        segmentation, truth: integers of any dtype and one shape; not used if there is a `table`.
            Where the truth is -1 nothing counts.
        iou_thresholds: in (0, 1], one or more, none twice.
        table: the contingency table of both.

    Returns:
        For each threshold t `synapse_precision_<t>`, `synapse_recall_<t>`, `synapse_f1_<t>`, and
        `synapse_directed_<name>_<t>`, in which only pairs with the right direction count as found.
        Precision of no synapses is 0.

    Raises:
        UserError: the truth has no synapses, or the thresholds are not such.
    """
    check_thresholds(iou_thresholds, metric="polarity_matching")
    synapses, agreed = _folded(table_of(segmentation, truth, table, background=True))
    overlaps = Overlaps(synapses)
    agreed = agreed[(synapses.truth != 0) & (synapses.segmentation != 0)]
    scores: dict[str, float] = {}
    for threshold in iou_thresholds:
        matched = overlaps.best_pairs(threshold)
        directed = int((agreed[matched] > 0).sum())
        for kind, found in (("synapse", len(matched)), ("synapse_directed", directed)):
            scores |= {
                f"{kind}_precision_{float(threshold)}": found / max(overlaps.segments, 1),
                f"{kind}_recall_{float(threshold)}": found / overlaps.objects,
                f"{kind}_f1_{float(threshold)}": 2 * found / (overlaps.objects + overlaps.segments),
            }
    return scores


def _folded(regions: Contingency) -> tuple[Contingency, np.ndarray]:
    """The table of synapses, and per entry the voxels of equal minus those of different sides."""
    truth, ours = regions.truth, regions.segmentation
    ids = np.stack([truth - truth // 2, ours - ours // 2], axis=1)
    pairs, entry = np.unique(ids, axis=0, return_inverse=True)
    entry = entry.reshape(-1)
    counts = np.bincount(entry, weights=regions.counts).astype(np.int64)
    signed = np.where(truth % 2 == ours % 2, regions.counts, -regions.counts)
    agreed = np.bincount(entry, weights=signed)
    return Contingency(pairs[:, 0], pairs[:, 1], counts, regions.voxels), agreed
