"""The plain Rand index."""

import numpy as np

from emseg.evaluation.table import Contingency, table_of


def rand_index(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    table: Contingency | None = None,
) -> dict[str, float]:
    """The share of voxel pairs that are together in both or apart in both: `rand_index`, 1 is best.

    Most pairs of a volume of many objects are apart, so it is close to 1 for bad segmentations too;
    see `adapted_rand`. (Rand, "Objective criteria for the evaluation of clustering methods", JASA
    1971.)

    Args:
        segmentation: integers of any dtype; 0 is a segment like any other.
        truth: integers of the same shape; voxels of 0 and -1 are left out.
        table: the contingency table of both; with it the arrays are not used.

    Returns:
        `rand_index`, 1 if there is a single voxel.

    Raises:
        UserError: no voxel is labelled.
    """
    table = table_of(segmentation, truth, table)
    pairs = _pairs(np.array([table.counted]))
    together = _pairs(table.counts)
    apart = pairs + together - _pairs(table.segmentation_sizes) - _pairs(table.truth_sizes)
    return {"rand_index": (together + apart) / pairs if pairs else 1.0}


def _pairs(sizes: np.ndarray) -> int:
    # Python's integers: the square of a large cube's voxels is beyond int64.
    return sum(size * (size - 1) // 2 for size in sizes.tolist())
