"""Unites segments that end at one section with those that continue them in the next."""

import numpy as np

from emseg.decoding.agglomeration.section_facts import Sections, overlaps_of
from emseg.kernels.branch_unions import flatten, unite_alike, unite_buddies
from emseg.kernels.numbering import unite_pairs
from emseg.kernels.region_edges import SUM_UNIT


def merge_branches(
    sections: Sections,
    roots: np.ndarray,
    *,
    iou_threshold: float | None,
    singleton_size_ratio: float,
    best_buddy: bool,
    one_sided_threshold: float | None,
    one_sided_min_size: int,
    branch_affinity: float,
) -> np.ndarray:
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
    if branch_affinity:
        means = (rows["sum"] / (rows["area"] * np.float64(SUM_UNIT))).astype(np.float32)
        rows = rows[means >= np.float32(branch_affinity)]
    section, one, two, area = (
        np.ascontiguousarray(rows[name]) for name in ("section", "one", "two", "area")
    )
    sizes = np.stack([areas.of(one, section), areas.of(two, section + 1)]).astype(np.int64)
    smaller, larger = sizes.min(0), sizes.max(0)
    parents = np.arange(len(roots), dtype=np.int32)
    if iou_threshold is not None:
        overlapping = area / (smaller + larger - area) >= iou_threshold
        alike = smaller / larger >= singleton_size_ratio
        alike &= singleton_size_ratio > 0
        unite_alike(parents, section, one, two, overlapping, alike)
    if best_buddy:
        both = (areas.last[one] == section) & (areas.first[two] == section + 1)
        unite_buddies(parents, section[both], one[both], two[both], area[both])
    if one_sided_threshold is not None:
        inside = area / smaller >= one_sided_threshold
        inside &= smaller >= one_sided_min_size
        unite_pairs(parents, one[inside], two[inside])
    flatten(parents)
    return parents[roots]
