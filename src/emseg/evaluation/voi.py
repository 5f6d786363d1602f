"""Variation of information."""

import numpy as np

from emseg.evaluation.table import Contingency, table_of


def voi(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    table: Contingency | None = None,
) -> dict[str, float]:
    """The variation of information in bits: `voi_split`, `voi_merge` and their sum, `voi_sum`.

    Split is H(segmentation | truth), for objects in several segments; merge is
    H(truth | segmentation), for joined objects. 0 is best. Equal to scikit-image's
    variation_of_information(truth, segmentation, ignore_labels=(0,)) and to CREMI's. Meila,
    "Comparing clusterings", JMVA 2007.

    Args:
        segmentation: integers of any dtype; 0 is a segment like any other (so that removing
            segments is not free).
        truth: integers of the same shape; 0 and -1 are left out.
        table: the contingency table of both; with it the arrays are not used.

    Raises:
        UserError: no voxel is labelled.
    """
    split, merge = split_and_merge(table_of(segmentation, truth, table))
    return {"voi_split": split, "voi_merge": merge, "voi_sum": split + merge}


def split_and_merge(table: Contingency) -> tuple[float, float]:
    """H(segmentation | truth) and H(truth | segmentation) in bits, over all entries."""
    share = table.counts / table.counted
    split = _entropy(share, table.counts / table.truth_sizes[table.truth_index])
    merge = _entropy(share, table.counts / table.segmentation_sizes[table.segmentation_index])
    return split, merge


def _entropy(share: np.ndarray, conditional: np.ndarray) -> float:
    # No share is above 1, so no term is negative; + 0 turns -0 into 0.
    return float((share * -np.log2(conditional)).sum()) + 0.0
