"""Adapted Rand error, in its two common definitions."""

from typing import Literal

import numpy as np

from emseg.errors import unknown_name
from emseg.evaluation.table import Contingency, table_of


def adapted_rand(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    variant: Literal["snemi", "skimage"] = "snemi",
    table: Contingency | None = None,
) -> dict[str, float]:
    """The adapted Rand error (0 best, 1 worst) with its precision and recall.

    1 - 2 * joint / (ours + theirs), sums of squared sizes: `joint` of the pairs of ids, `ours` of
    the segments, `theirs` of the truth's objects. Precision is joint / ours (the share of voxel
    pairs in one segment that are in one object), recall joint / theirs, in both variants; of no
    pairs they are 1.

    `snemi`: SNEMI3D's and CREMI's evaluation. Segmentation 0 is no segment: its c voxels add c / n
    to `joint` and to `ours`, where n counts all voxels, even those without truth. `skimage`:
    scikit-image's adapted_rand_error with truth 0 ignored. Segmentation 0 is a segment and pairs
    of a voxel with itself do not count; precision and recall are exchanged in scikit-image.

    Args:
        segmentation, truth: integers of any dtype and one shape; not used if there is a `table`.
            Truth 0 and -1 are left out.
        variant: see above.
        table: the contingency table of both.

    Returns:
        `adapted_rand`, `adapted_rand_precision` and `adapted_rand_recall`, with `_skimage` at the
        end for that variant.

    Raises:
        UserError: no voxel is labelled, or the variant is unknown.
    """
    variants = {"snemi": snemi_sums, "skimage": _skimage_sums}
    if variant not in variants:
        raise unknown_name("variant", variant, variants, where="adapted_rand")
    joint, ours, theirs = variants[variant](table_of(segmentation, truth, table))
    suffix = "" if variant == "snemi" else "_skimage"
    return {
        f"adapted_rand{suffix}": 1.0 - _ratio(2 * joint, ours + theirs),
        f"adapted_rand_precision{suffix}": _ratio(joint, ours),
        f"adapted_rand_recall{suffix}": _ratio(joint, theirs),
    }


def snemi_sums(table: Contingency) -> tuple[float, float, float]:
    """`joint`, `ours` and `theirs` of the variant `snemi`, over all entries of the table."""
    segmented = table.segmentation != 0
    per_segment = np.bincount(table.segmentation_index[segmented], weights=table.counts[segmented])
    alone = table.unsegmented / table.voxels
    return (
        _squares(table.counts[segmented]) + alone,
        _squares(per_segment) + alone,
        _squares(table.truth_sizes),
    )


def _skimage_sums(table: Contingency) -> tuple[float, float, float]:
    voxels = table.counted
    return (
        _squares(table.counts) - voxels,
        _squares(table.segmentation_sizes) - voxels,
        _squares(table.truth_sizes) - voxels,
    )


def _squares(counts: np.ndarray) -> float:
    # In float64: the square of a large cube's voxels is beyond int64.
    return float(np.square(counts, dtype=np.float64).sum())


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
