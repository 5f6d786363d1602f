"""Segments that break off at one section and go on in the next are united."""

from dataclasses import dataclass

import numpy as np

from emseg.decoding.section_facts import Sections, overlaps_of
from emseg.errors import UserError
from emseg.kernels.branch_unions import flatten, unite_alike, unite_buddies
from emseg.kernels.numbering import unite_pairs
from emseg.kernels.region_edges import SUM_UNIT


@dataclass(frozen=True, kw_only=True)
class BranchRules:
    """The arguments of `agglomerate` on segments across sections; a UserError for illegal ones."""

    iou_threshold: float | None
    singleton_size_ratio: float
    best_buddy: bool
    one_sided_threshold: float | None
    one_sided_min_size: int
    branch_affinity: float

    def __post_init__(self) -> None:
        for name in ("iou_threshold", "one_sided_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UserError(f"decoding.{name} is {value}; it is a share in (0, 1], or null")
        for name in ("singleton_size_ratio", "branch_affinity"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"decoding.{name} is {value}; it is in [0, 1], where 0 is off")
        if self.one_sided_min_size < 0:
            size = self.one_sided_min_size
            raise UserError(f"decoding.one_sided_min_size is {size}; it is 0 or more pixels")
        needs = {
            "singleton_size_ratio": ("iou_threshold", self.iou_threshold is not None),
            "one_sided_min_size": ("one_sided_threshold", self.one_sided_threshold is not None),
            "branch_affinity": ("iou_threshold, best_buddy or one_sided_threshold", self.active),
        }
        for name, (other, there) in needs.items():
            value = getattr(self, name)
            if value and not there:
                raise UserError(
                    f"decoding.{name} is {value}, which does nothing without decoding.{other}: "
                    f"set that, or decoding.{name}=0"
                )

    @property
    def active(self) -> bool:
        """Whether any segments are united."""
        thresholds = (self.iou_threshold, self.one_sided_threshold)
        return self.best_buddy or any(threshold is not None for threshold in thresholds)

    def check_sections(self, shape: tuple[int, ...]) -> None:
        """Nothing, or a UserError for a volume (Z, Y, X) with nothing to unite across."""
        if self.active and shape[0] < 2:
            raise UserError(
                "the prediction has one section; decoding.iou_threshold, best_buddy and "
                "one_sided_threshold unite segments of one section and the next"
            )


def merge_branches(sections: Sections, roots: np.ndarray, rules: BranchRules) -> np.ndarray:
    """The roots, int32, after segments were united with those that they go on in.

    `roots` are each fragment's, the smallest of its segment, and so are those that are returned.
    Pairs are those that overlap across a section and the next, i below j, where i is last found in
    the first or j first found in the second, over a mean affinity of `branch_affinity` or more.
    Each stage takes all boundaries, in ascending order, before the next one; sizes (pixels in that
    section), overlaps and ends stay those of the segments as they come in:

    1. IoU, unless `iou_threshold` is None: pairs with an intersection over union of it or more.
       After those of a boundary, its pairs (by i, j) of which the smaller has at least
       `singleton_size_ratio` times the pixels of the larger, unless both were united there already.
    2. `best_buddy`: pairs where i ends and j begins, between what has become of them so far: those
       that overlap most, at that boundary, with each other; of equal overlaps the first by i, j.
    3. One-sided, unless `one_sided_threshold` is None: pairs whose overlap is at least that share
       of the smaller one, which has `one_sided_min_size` pixels or more.

    PyTorch Connectomics' branch merge.
    """
    rows, areas = overlaps_of(sections, roots)
    if rules.branch_affinity:
        means = (rows["sum"] / (rows["area"] * np.float64(SUM_UNIT))).astype(np.float32)
        rows = rows[means >= np.float32(rules.branch_affinity)]
    section, one, two, area = (
        np.ascontiguousarray(rows[name]) for name in ("section", "one", "two", "area")
    )
    sizes = np.stack([areas.of(one, section), areas.of(two, section + 1)]).astype(np.int64)
    smaller, larger = sizes.min(0), sizes.max(0)
    parents = np.arange(len(roots), dtype=np.int32)
    if rules.iou_threshold is not None:
        overlapping = area / (smaller + larger - area) >= rules.iou_threshold
        ratio = rules.singleton_size_ratio
        alike = smaller / larger >= ratio if ratio else np.zeros(len(rows), bool)
        unite_alike(parents, section, one, two, overlapping, alike)
    if rules.best_buddy:
        both = (areas.last[one] == section) & (areas.first[two] == section + 1)
        unite_buddies(parents, section[both], one[both], two[both], area[both])
    if rules.one_sided_threshold is not None:
        inside = area / smaller >= rules.one_sided_threshold
        inside &= smaller >= rules.one_sided_min_size
        unite_pairs(parents, one[inside], two[inside])
    flatten(parents)
    return parents[roots]
