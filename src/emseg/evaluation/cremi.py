"""The neuron score of the CREMI challenge."""

from math import sqrt
from typing import Literal

import numpy as np

from emseg.errors import unknown_name
from emseg.evaluation.adapted_rand import snemi_sums
from emseg.evaluation.table import Contingency, table_of
from emseg.evaluation.voi import split_and_merge


def cremi_score(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    gt0: Literal["counted", "ignored"] = "counted",
    table: Contingency | None = None,
) -> dict[str, float]:
    """The CREMI neuron score, 0 best, and its parts.

    sqrt((split + merge) * rand): the geometric mean of the variation of information, in bits, and
    the adapted Rand error of variant `snemi`.

    Args:
        segmentation, truth: integers of any dtype and one shape; not used if there is a `table`.
            Truth -1 is left out.
        gt0: `counted` makes truth 0 an object like others, as in the challenge's own evaluation,
            which adds 1 to all ids and ignores those that were -1; `ignored` leaves it out, as
            `voi` and `adapted_rand` do.
        table: the contingency table of both.

    Returns:
        `cremi_score`, `cremi_voi_split`, `cremi_voi_merge` and `cremi_adapted_rand`, with
        `_gt0_ignored` at the end where truth 0 is ignored.

    Raises:
        UserError: no voxel is labelled, or `gt0` is another word.
    """
    choices = ("counted", "ignored")
    if gt0 not in choices:
        raise unknown_name("gt0", gt0, choices, where="cremi_score")
    table = table_of(segmentation, truth, table, background=gt0 == "counted")
    split, merge = split_and_merge(table)
    joint, ours, theirs = snemi_sums(table)
    rand = 1.0 - 2 * joint / (ours + theirs)
    suffix = "" if gt0 == "counted" else "_gt0_ignored"
    return {
        # Sums beyond 2**53 are rounded, which can make a perfect Rand error slightly negative.
        f"cremi_score{suffix}": sqrt((split + merge) * max(rand, 0.0)),
        f"cremi_voi_split{suffix}": split,
        f"cremi_voi_merge{suffix}": merge,
        f"cremi_adapted_rand{suffix}": rand,
    }
