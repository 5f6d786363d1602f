"""The Jaccard index of two masks."""

import numpy as np

from emseg.evaluation.table import Contingency, table_of


def jaccard(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    table: Contingency | None = None,
) -> dict[str, float]:
    """The overlap of two masks, 1 best: intersection over union of all ids above 0.

    A share of no voxels is 1: two empty masks are the same, nothing is wrong in an empty
    segmentation, and nothing of an empty truth is missed.

    Args:
        segmentation, truth: integers of any dtype and one shape; not used if there is a `table`.
            Voxels whose truth is -1 do not count.
        table: the contingency table of both.

    Returns:
        `jaccard`, `jaccard_precision`, the share of the predicted voxels that are true, and
        `jaccard_recall`, the share of the true voxels that are predicted.

    Raises:
        UserError: the truth is -1 everywhere.
    """
    table = table_of(segmentation, truth, table, background=True)
    ours, theirs = table.segmentation > 0, table.truth > 0
    both, predicted, true, either = (
        int(table.counts[chosen].sum()) for chosen in (ours & theirs, ours, theirs, ours | theirs)
    )
    parts = {"jaccard": either, "jaccard_precision": predicted, "jaccard_recall": true}
    return {name: both / voxels if voxels else 1.0 for name, voxels in parts.items()}
