"""Unites segments that end at one section with those that continue them in the next."""

from typing import TYPE_CHECKING

import numpy as np

from emseg.decoding.agglomeration.section_facts import Sections, overlaps_of
from emseg.errors import UserError
from emseg.kernels.branch_unions import flatten, unite_alike, unite_buddies
from emseg.kernels.numbering import unite_pairs
from emseg.kernels.region_edges import SUM_UNIT

if TYPE_CHECKING:
    from emseg.decoding.agglomerate import Agglomerate


def unites_branches(settings: "Agglomerate") -> bool:
    """Whether `merge_branches` does anything."""
    shares = (settings.iou_threshold, settings.one_sided_threshold)
    return settings.best_buddy or any(share is not None for share in shares)


def check_branch_settings(settings: "Agglomerate") -> None:
    """Raises UserError for a setting that does nothing without another one."""
    shares = "iou_threshold, best_buddy or one_sided_threshold"
    for name, other, there in (
        ("singleton_size_ratio", "iou_threshold", settings.iou_threshold),
        ("one_sided_min_size", "one_sided_threshold", settings.one_sided_threshold),
        ("branch_affinity", shares, unites_branches(settings)),
    ):
        value = getattr(settings, name)
        if value and not there:
            raise UserError(
                f"decoding.{name} is {value}, which does nothing without decoding.{other}: "
                f"set that, or decoding.{name}=0"
            )


def check_sections(depth: int) -> None:
    """Raises UserError if there is no section after the first, whose segments could be united."""
    if depth < 2:
        raise UserError(
            "the prediction has one section; decoding.iou_threshold, best_buddy and "
            "one_sided_threshold unite segments of one section and the next"
        )


def merge_branches(sections: Sections, roots: np.ndarray, settings: "Agglomerate") -> np.ndarray:
    """The roots, int32, after segments were united with those that continue them.

    A root, in input and result, is the smallest fragment of a fragment's segment. Segments i and j
    are a pair if i in a section overlaps j in the next, i ends there or j begins there, and the
    mean affinity between them is `branch_affinity` or more. Each stage processes all boundaries
    between sections, in ascending order. Sizes (pixels in that section), overlaps and ends are
    always those of the segments as given:

    1. IoU, unless `iou_threshold` is None: pairs with at least this intersection over union. Then,
       at the same boundary, pairs (by i, j) whose smaller segment has at least
       `singleton_size_ratio` times the pixels of the larger, unless both were united there already.
    2. `best_buddy`: pairs where i ends and j begins whose segments, as united so far, overlap most
       with each other at that boundary; of equal overlaps the first by i, j.
    3. One-sided, unless `one_sided_threshold` is None: pairs whose overlap is at least that share
       of the smaller segment, if this has `one_sided_min_size` pixels or more.

    PyTorch Connectomics' branch merge.
    """
    rows, areas = overlaps_of(sections, roots)
    if settings.branch_affinity:
        means = (rows["sum"] / (rows["area"] * np.float64(SUM_UNIT))).astype(np.float32)
        rows = rows[means >= np.float32(settings.branch_affinity)]
    section, one, two, area = (
        np.ascontiguousarray(rows[name]) for name in ("section", "one", "two", "area")
    )
    sizes = np.stack([areas.of(one, section), areas.of(two, section + 1)]).astype(np.int64)
    smaller, larger = sizes.min(0), sizes.max(0)
    parents = np.arange(len(roots), dtype=np.int32)
    if settings.iou_threshold is not None:
        overlapping = area / (smaller + larger - area) >= settings.iou_threshold
        alike = smaller / larger >= settings.singleton_size_ratio
        alike &= settings.singleton_size_ratio > 0
        unite_alike(parents, section, one, two, overlapping, alike)
    if settings.best_buddy:
        both = (areas.last[one] == section) & (areas.first[two] == section + 1)
        unite_buddies(parents, section[both], one[both], two[both], area[both])
    if settings.one_sided_threshold is not None:
        inside = area / smaller >= settings.one_sided_threshold
        inside &= smaller >= settings.one_sided_min_size
        unite_pairs(parents, one[inside], two[inside])
    flatten(parents)
    return parents[roots]
