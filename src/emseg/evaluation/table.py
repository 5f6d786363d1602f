"""The contingency table of a segmentation and its truth: all that neuron metrics need."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emseg.errors import UserError
from emseg.kernels.contingency import count_pairs

# Voxels that are looked at together, as 64-bit ids: little memory, and large enough to be fast.
_CHUNK = 2**20


@dataclass(frozen=True, eq=False)
class Contingency:
    """How many voxels carry each pair of a truth id and a segmentation id.

    One entry per pair that occurs, ordered by truth id, then by segmentation id: `truth` and
    `segmentation` uint64, `counts` int64. Only voxels with a truth count, that is neither 0
    (background) nor -1 (unlabelled); segmentation 0 is an id like others. `voxels` counts all
    voxels, those without a truth too. Tables of parts of a volume add up to that of the whole.
    """

    truth: np.ndarray
    segmentation: np.ndarray
    counts: np.ndarray
    voxels: int

    def __add__(self, other: "Contingency") -> "Contingency":
        return _table(
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.segmentation, other.segmentation]),
            np.concatenate([self.counts, other.counts]),
            self.voxels + other.voxels,
        )

    @cached_property
    def truth_index(self) -> np.ndarray:
        """Per entry the rank of its truth id among the truth ids."""
        return np.unique(self.truth, return_inverse=True)[1]

    @cached_property
    def segmentation_index(self) -> np.ndarray:
        """Per entry the rank of its segmentation id among the segmentation ids."""
        return np.unique(self.segmentation, return_inverse=True)[1]

    @cached_property
    def truth_sizes(self) -> np.ndarray:
        """Voxels of each truth id, float64, in the order of the ids."""
        return np.bincount(self.truth_index, weights=self.counts)

    @cached_property
    def segmentation_sizes(self) -> np.ndarray:
        """Voxels with a truth of each segmentation id, 0 included, float64, in their order."""
        return np.bincount(self.segmentation_index, weights=self.counts)

    @property
    def labelled(self) -> int:
        """Voxels with a truth."""
        return int(self.counts.sum())

    @property
    def background(self) -> int:
        """Voxels with a truth where the segmentation is 0."""
        return int(self.counts[self.segmentation == 0].sum())


def contingency(segmentation: np.ndarray, truth: np.ndarray) -> Contingency:
    """The contingency table of a segmentation and its truth, or of the same block of both.

    Both are integers of any dtype (raw uint64 ids too) or bool, and of one shape, with one axis
    or more. Truth 0 and, in a signed dtype, -1 are left out. Floats, other negative ids and
    different shapes are UserErrors. Time grows with runs of equal ids, memory with the pairs that
    occur.
    """
    if segmentation.shape != truth.shape:
        raise UserError(
            f"the segmentation has the shape {segmentation.shape}, the truth {truth.shape}"
        )
    _check_ids(segmentation, "segmentation", lowest=0)
    _check_ids(truth, "truth", lowest=-1)
    ignored = np.uint64(2**64 - 1 if truth.dtype.kind == "i" else 0)
    pairs, used = np.zeros((1024, 3), np.uint64), 0
    rows = max(1, _CHUNK * len(truth) // max(truth.size, 1))
    for start in range(0, len(truth), rows):
        block = slice(start, start + rows)
        pairs, used = count_pairs(
            _ids(truth, block), _ids(segmentation, block), ignored, pairs, used
        )
    pairs = pairs[pairs[:, 2] > 0]
    return _table(pairs[:, 0], pairs[:, 1], pairs[:, 2].astype(np.int64), truth.size)


def table_of(
    segmentation: np.ndarray | None, truth: np.ndarray | None, table: Contingency | None
) -> Contingency:
    """The table given, else that of the arrays; a UserError when it counts no voxel."""
    if table is None:
        if segmentation is None or truth is None:
            raise UserError("a metric needs a segmentation and its truth, or their table")
        table = contingency(segmentation, truth)
    if not len(table.counts):
        raise UserError("the truth holds no labelled voxel (all are 0 or -1): nothing to evaluate")
    return table


def _ids(labels: np.ndarray, block: slice) -> np.ndarray:
    return labels[block].astype(np.uint64).reshape(-1)


def _check_ids(labels: np.ndarray, name: str, *, lowest: int) -> None:
    if labels.dtype.kind not in "iub":
        raise UserError(f"the {name} is {labels.dtype}; ids are integers")
    if labels.dtype.kind == "i" and labels.min(initial=0) < lowest:
        raise UserError(f"the {name} holds the id {labels.min()}; ids are {lowest} or more")


def _table(
    truth: np.ndarray, segmentation: np.ndarray, counts: np.ndarray, voxels: int
) -> Contingency:
    order = np.lexsort((segmentation, truth))
    truth, segmentation, counts = truth[order], segmentation[order], counts[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (truth[1:] != truth[:-1]) | (segmentation[1:] != segmentation[:-1])
    starts = np.flatnonzero(first)
    # reduceat has no answer for no entries at all.
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    return Contingency(truth[starts], segmentation[starts], sums, voxels)
