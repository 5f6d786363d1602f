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

    Voxels whose truth is 0 or -1 are left out; of the others every id counts, even segmentation 0,
    as in the VOI. Labels are integers of any dtype and one shape; with a `table` of them the arrays
    are not used. Raises UserError if no voxel is labelled. dbMiM's tables have these numbers.
    """
    table = table_of(segmentation, truth, table)
    return {
        "n_pred": float(len(table.segmentation_sizes)),
        "n_gt": float(len(table.truth_sizes)),
        "n_voxels": float(table.counted),
    }
