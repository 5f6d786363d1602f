"""How much there is to evaluate."""

import numpy as np

from emseg.evaluation.table import Contingency, table_of


def counts(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    table: Contingency | None = None,
) -> dict[str, float]:
    """The numbers of segments (`n_pred`), objects (`n_gt`) and voxels (`n_voxels`) that count.

    dbMiM's tables have these numbers.

    Args:
        segmentation: integers of any dtype; every id counts, even 0, as in the VOI.
        truth: integers of the same shape; voxels of truth 0 and -1 are left out.
        table: the contingency table of both; with it the arrays are not used.

    Raises:
        UserError: no voxel is labelled.
    """
    table = table_of(segmentation, truth, table)
    return {
        "n_pred": float(len(table.segmentation_sizes)),
        "n_gt": float(len(table.truth_sizes)),
        "n_voxels": float(table.counted),
    }
