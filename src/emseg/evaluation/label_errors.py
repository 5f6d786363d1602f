"""The mergers and splits of a segmentation that cost most voxels, and their places."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emseg.evaluation.table import Contingency

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class LabelError:
    """A segment that joins objects, or an object in several segments.

    Attributes:
        kind: what it is.
        of: the id of the segment (`merger`) or of the object (`split`).
        parts: the ids of its two largest parts, objects or segments, the largest first.
        voxels: in all parts but the largest.
    """

    kind: Literal["merger", "split"]
    of: int
    parts: tuple[int, int]
    voxels: int


def worst_errors(table: Contingency, *, n: int = 10) -> list[LabelError]:
    """The `n` mergers and the `n` splits that cost most voxels, mergers first.

    Neither truth 0 nor segment 0 has a part in them.

    Args:
        table: of the whole volume.
        n: the most of either kind.
    """
    both = (table.truth > 0) & (table.segmentation > 0)
    truth, segments, counts = table.truth[both], table.segmentation[both], table.counts[both]
    return [
        *_worst("merger", segments, truth, counts, n),
        *_worst("split", truth, segments, counts, n),
    ]


def _worst(
    kind: Literal["merger", "split"], of: np.ndarray, part: np.ndarray, counts: np.ndarray, n: int
) -> list[LabelError]:
    order = np.lexsort((part, -counts, of))
    of, part, counts = of[order], part[order], counts[order]
    starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]]) if len(of) else np.empty(0, np.intp)
    lengths = np.diff(np.r_[starts, len(of)])
    several = starts[lengths > 1]
    totals = np.add.reduceat(counts, starts)[lengths > 1] if len(starts) else counts
    lost = totals - counts[several]
    return [
        LabelError(
            kind,
            int(of[several[worst]]),
            (int(part[several[worst]]), int(part[several[worst] + 1])),
            int(lost[worst]),
        )
        for worst in np.argsort(-lost, kind="stable")[:n]
    ]


def places_of(
    errors: Sequence[LabelError],
    blocks: Iterable[tuple[Sequence[int], np.ndarray, np.ndarray]],
) -> list[Voxel | None]:
    """For each error a voxel where its two parts touch, in the middle of their contact, or None.

    Args:
        errors: of `worst_errors`.
        blocks: (first voxel, segmentation, truth) of boxes that cover the volume and overlap by a
            voxel, so that each pair of neighbours is in one.
    """
    found: dict[LabelError, list[np.ndarray]] = {error: [] for error in errors}
    for start, segmentation, truth in blocks:
        for kind, of, part in (("merger", segmentation, truth), ("split", truth, segmentation)):
            own = [error for error in errors if error.kind == kind]
            for axis in range(of.ndim):
                for error, voxels in _contacts(own, of, part, axis):
                    found[error].append(voxels + np.array(start))
    places: list[Voxel | None] = []
    for error in errors:
        # Blocks overlap, so a voxel may be found twice.
        voxels = np.unique(np.concatenate([np.empty((0, 3), np.int64), *found[error]]), axis=0)
        if len(voxels):
            nearest = np.square(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()
            z, y, x = voxels[nearest].tolist()
        places.append((z, y, x) if len(voxels) else None)
    return places


def _contacts(
    errors: Sequence[LabelError], of: np.ndarray, part: np.ndarray, axis: int
) -> Iterable[tuple[LabelError, np.ndarray]]:
    """Voxels (N, 3) of an error before a face along the axis across which its parts meet."""
    first, second = [slice(None)] * of.ndim, [slice(None)] * of.ndim
    first[axis], second[axis] = slice(None, -1), slice(1, None)
    before, behind = tuple(first), tuple(second)
    meet = (of[before] == of[behind]) & (part[before] != part[behind])
    at = np.flatnonzero(meet & np.isin(of[before], [error.of for error in errors]))
    voxels = np.stack(np.unravel_index(at, meet.shape), axis=1)
    ids = of[before].reshape(-1)[at]
    pairs = np.stack([part[side].reshape(-1)[at] for side in (before, behind)], axis=1)
    pairs.sort(axis=1)
    for error in errors:
        here = (ids == error.of) & (pairs == sorted(error.parts)).all(axis=1)
        if here.any():
            yield error, voxels[here]
