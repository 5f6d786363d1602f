"""The score of the CREMI challenge for synaptic clefts: the distance between two masks."""

from collections.abc import Sequence
from math import inf, nan

import numpy as np

from emseg.errors import UserError
from emseg.evaluation.table import check_pair
from emseg.kernels.nearest import distances_outside

# A voxel farther from the other mask than this, in nm, is false.
FAR = 200.0
# Voxels can be exactly 200 nm apart (50 of 4 nm, 5 of 40 nm): rounding must not make it more.
ROUNDING = 1e-3


def cremi_distance(
    segmentation: np.ndarray, truth: np.ndarray, *, voxel_size: Sequence[float] | None
) -> dict[str, float]:
    """Distances of predicted clefts to the true ones and the reverse, in nm; 0 is best.

    Distances are between the centres of voxels, in float64, 0 for a voxel in both masks. Two empty
    masks have the distance 0. If one is empty, its own distances are nan and none is false; those
    to it are inf (std nan) and all false, and `cremi_distance` is inf.

    Args:
        segmentation, truth: integers (Z, Y, X) of any dtype; clefts are all ids above 0. Voxels
            whose truth is -1 belong to neither mask.
        voxel_size: nm (z, y, x).

    Returns:
        Of predicted voxels to the nearest true one: `cremi_adgt` (average distance to ground
        truth), `cremi_adgt_std`, `_max`, `_median`, and `cremi_false_positives`, the number of
        voxels farther than 200 nm. For the reverse `cremi_adf` (average distance to the found),
        `cremi_adf_std` and so on, and `cremi_false_negatives`. `cremi_distance` = (adgt + adf) / 2,
        the CREMI score on the challenge's leader board; `cremi_segmentation_voxels` and
        `cremi_truth_voxels` are the sizes of the masks.

    Raises:
        UserError: the labels are no such arrays, the truth is -1 everywhere, or the voxel size is
            missing or not three numbers above 0.
    """
    check_pair(segmentation, truth)
    size = _checked_size(voxel_size, segmentation.ndim)
    # In C order, for any order of the labels.
    ours = np.greater(segmentation, 0, order="C")
    theirs = np.greater_equal(truth, 0, order="C")
    if not theirs.any():
        raise UserError("the truth holds no labelled voxel (all are -1): nothing to evaluate")
    ours &= theirs
    np.greater(truth, 0, out=theirs)
    found, missed = _distances(ours, theirs, size), _distances(theirs, ours, size)
    sizes = {"cremi_segmentation_voxels": len(found), "cremi_truth_voxels": len(missed)}
    if not len(found) and not len(missed):
        found = missed = np.zeros(1)
    adgt, adf = _statistics("cremi_adgt", found), _statistics("cremi_adf", missed)
    one_empty = not len(found) or not len(missed)
    return {
        "cremi_distance": inf if one_empty else (adgt["cremi_adgt"] + adf["cremi_adf"]) / 2,
        "cremi_adgt": adgt["cremi_adgt"],
        "cremi_adf": adf["cremi_adf"],
        "cremi_false_positives": _far(found),
        "cremi_false_negatives": _far(missed),
        **adgt,
        **adf,
        **{name: float(voxels) for name, voxels in sizes.items()},
    }


def _checked_size(voxel_size: Sequence[float] | None, axes: int) -> Sequence[float]:
    if voxel_size is None:
        raise UserError("cremi_distance measures in nm: set data.test.resolution, the voxel size")
    if axes != 3 or len(voxel_size) != 3 or min(voxel_size) <= 0:
        raise UserError(
            f"cremi_distance: voxel size {list(voxel_size)} of labels with {axes} axes: it must be "
            "3 numbers above 0, for 3 axes"
        )
    return voxel_size


def _distances(here: np.ndarray, there: np.ndarray, size: Sequence[float]) -> np.ndarray:
    """The distance of each voxel of a mask to the other mask; voxels in both come last."""
    voxels = np.count_nonzero(here)
    if not there.any():
        return np.full(voxels, inf)
    distances = np.zeros(voxels)
    outside = distances_outside(here, there, size)
    distances[: len(outside)] = outside
    return distances


def _statistics(name: str, distances: np.ndarray) -> dict[str, float]:
    if not len(distances):
        mean = std = most = median = nan
    elif distances[0] == inf:  # then all are
        mean, std, most, median = inf, nan, inf, inf
    else:
        mean, std = distances.mean(), distances.std()
        most, median = distances.max(), np.median(distances)
    numbers = {"": mean, "_std": std, "_max": most, "_median": median}
    return {f"{name}{suffix}": float(number) for suffix, number in numbers.items()}


def _far(distances: np.ndarray) -> float:
    return float(np.count_nonzero(distances > FAR + ROUNDING))
