"""The contingency table of a segmentation and its truth, from which neuron metrics follow."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emseg.errors import UserError
from emseg.kernels.contingency import add_equal_pairs, count_pairs

# Voxels that are copied together if the array itself cannot be counted.
_CHUNK = 2**20


@dataclass(frozen=True, eq=False)
class Contingency:
    """How many voxels have each pair of a truth id and a segmentation id.

    One entry per pair that occurs, ordered by truth id, then by segmentation id. Tables of parts of
    a volume add up to that of the whole.

    Attributes:
        truth: uint64, per entry; 0 (background) is an id like any (see `objects`), voxels whose
            truth is -1 (unlabelled) have no entry.
        segmentation: uint64, per entry; 0 is an id like others.
        counts: int64, per entry: voxels.
        voxels: the number of all voxels, even unlabelled ones.
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

    def merged(self, lut: np.ndarray) -> "Contingency":
        """The table of the segmentation in which every id s becomes lut[s].

        The time does not depend on the voxels, so one table of fragments can be used for many
        segmentations.

        Args:
            lut: integers of 0 or more, one for each id from 0 to the largest that occurs.

        Raises:
            UserError: `lut` is no such array.
        """
        top = int(self.segmentation.max(initial=0))
        if lut.ndim != 1 or len(lut) <= top:
            raise UserError(f"lut has the shape {lut.shape}: segmentation ids go up to {top}")
        _check_ids(lut, "lut", lowest=0)
        new = lut[self.segmentation.astype(np.intp)]
        bits = [int(n).bit_length() for n in (len(self.truth), new.max(initial=0), len(new))]
        if sum(bits) > 63:
            return _table(self.truth, new.astype(np.uint64), self.counts, self.voxels)
        # The lowest bits of a key are the place of its count.
        keys = (self.truth_index << bits[1]) + new.astype(np.int64)
        keys <<= bits[2]
        keys += np.arange(len(keys))
        keys.sort()
        one, two, counts = add_equal_pairs(keys, self.counts, bits[1], bits[2])
        truth = self.truth[_changes(self.truth)][one]
        return Contingency(truth, two.astype(np.uint64), counts, self.voxels)

    @property
    def nbytes(self) -> int:
        return self.truth.nbytes + self.segmentation.nbytes + self.counts.nbytes

    @cached_property
    def objects(self) -> "Contingency":
        """The entries of the truth's objects, that is without truth 0; with the same `voxels`."""
        start = np.searchsorted(self.truth, 1)
        entries = (self.truth[start:], self.segmentation[start:], self.counts[start:])
        return Contingency(*entries, self.voxels)

    @cached_property
    def truth_index(self) -> np.ndarray:
        """Per entry the rank of its truth id among the truth ids."""
        return np.cumsum(_changes(self.truth)) - 1

    @cached_property
    def segmentation_index(self) -> np.ndarray:
        """Per entry the rank of its segmentation id among the segmentation ids."""
        return _ranked(self.segmentation)[1]

    @cached_property
    def truth_sizes(self) -> np.ndarray:
        """Voxels of each truth id, float64, in the order of the ids."""
        return np.bincount(self.truth_index, weights=self.counts)

    @cached_property
    def segmentation_sizes(self) -> np.ndarray:
        """Voxels in the entries of each segmentation id, 0 included, float64, in their order."""
        return np.bincount(self.segmentation_index, weights=self.counts)

    @property
    def counted(self) -> int:
        """Voxels in all entries."""
        return int(self.counts.sum())

    @property
    def unsegmented(self) -> int:
        """Voxels in the entries of segmentation 0."""
        return int(self.counts[self.segmentation == 0].sum())


class Accumulator:
    """Makes a contingency table from the blocks of a volume, added in any order.

    Memory grows with the number of pairs that occur, not of voxels.
    """

    def __init__(self) -> None:
        self._pairs, self._used = np.zeros((1024, 3), np.uint64), 0
        self._voxels = 0

    def add(self, segmentation: np.ndarray, truth: np.ndarray) -> None:
        """Counts one more block; arrays as for `contingency`."""
        check_pair(segmentation, truth)
        ignores = truth.dtype.kind == "i"
        ignored = np.uint64(2**64 - 1 if truth.dtype.itemsize == 8 else 2**32 - 1)
        for ours, theirs in zip(_flat(segmentation), _flat(truth), strict=True):
            self._pairs, self._used = count_pairs(
                theirs, ours, ignored, ignores, self._pairs, self._used
            )
        self._voxels += truth.size

    def table(self) -> Contingency:
        """The table of all blocks so far."""
        truth, segmentation, counts = self._pairs[self._pairs[:, 2] > 0].T
        return _table(truth, segmentation, counts.astype(np.int64), self._voxels)


def check_pair(segmentation: np.ndarray, truth: np.ndarray) -> None:
    """Raises UserError if the arrays are not ids as for `contingency`, or differ in shape."""
    if segmentation.shape != truth.shape:
        raise UserError(
            f"the segmentation has the shape {segmentation.shape}, the truth {truth.shape}"
        )
    _check_ids(segmentation, "segmentation", lowest=0)
    _check_ids(truth, "truth", lowest=-1)


def contingency(segmentation: np.ndarray, truth: np.ndarray) -> Contingency:
    """The contingency table of a segmentation and its truth, or of the same block of both.

    Time grows with the number of runs of equal ids, memory with that of pairs; contiguous ids of 32
    or 64 bits are not copied.

    Args:
        segmentation, truth: integers of any dtype (even full uint64 ids) or bool, and of one shape,
            with one axis or more. Where the truth is -1, in a signed dtype, nothing is counted.

    Raises:
        UserError: floats, other negative ids, or different shapes.
    """
    pairs = Accumulator()
    pairs.add(segmentation, truth)
    return pairs.table()


def table_of(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    table: Contingency | None,
    *,
    background: bool = False,
) -> Contingency:
    """The given table, else that of the arrays; without truth 0 unless `background`.

    Raises UserError if no voxel is counted.
    """
    if table is None:
        if segmentation is None or truth is None:
            raise UserError("a metric needs a segmentation and its truth, or their table")
        table = contingency(segmentation, truth)
    table = table if background else table.objects
    if not len(table.counts):
        what = "all are -1" if background else "all are 0 or -1"
        raise UserError(f"the truth holds no labelled voxel ({what}): nothing to evaluate")
    return table


def _flat(labels: np.ndarray) -> Iterator[np.ndarray]:
    """The ids as flat uint32 or uint64 (-1 is the largest), in pieces if they must be copied.

    The pieces are the same for all arrays of one shape.
    """
    wide = labels.dtype.itemsize == 8
    word = np.dtype(np.uint64 if wide else np.uint32)
    signed = np.dtype(np.int64 if wide else np.int32)
    rows = max(1, _CHUNK * len(labels) // max(labels.size, 1))
    for start in range(0, len(labels), rows):
        piece = labels[start : start + rows]
        native = piece.astype(signed if labels.dtype.kind == "i" else word, order="C", copy=False)
        yield native.reshape(-1).view(word)


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
    starts = np.flatnonzero(_changes(truth) | _changes(segmentation))
    # reduceat fails if there are no entries.
    sums = np.add.reduceat(counts, starts) if len(starts) else counts
    return Contingency(truth[starts], segmentation[starts], sums, voxels)


def _changes(ids: np.ndarray) -> np.ndarray:
    """Where an id differs from the one before it, and the first place."""
    first = np.ones(len(ids), np.bool_)
    first[1:] = ids[1:] != ids[:-1]
    return first


def _ranked(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids that occur, sorted, and for each given id its place among them (int64)."""
    top = int(ids.max(initial=0))
    if top > 8 * len(ids):
        return np.unique(ids, return_inverse=True)
    there = np.zeros(top + 1, np.bool_)
    there[ids] = True
    return np.flatnonzero(there).astype(np.uint64), (np.cumsum(there) - 1)[ids]
