"""Unites segments that end at one section with those that continue them in the next."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from emseg.bounds import Fraction, above, check_fields, within
from emseg.decoding.section_facts import Sections, overlaps_of
from emseg.errors import UserError
from emseg.kernels.branch_unions import flatten, unite_alike, unite_buddies
from emseg.kernels.numbering import unite_pairs
from emseg.kernels.region_edges import SUM_UNIT

_Share = Annotated[float, above(0, 1)]


@dataclass(frozen=True, kw_only=True)
class BranchRules:
    """Which segments that end at a section are united with others, see `merge_branches`."""

    iou_threshold: _Share | None = None
    singleton_size_ratio: Fraction = 0.0
    best_buddy: bool = False
    one_sided_threshold: _Share | None = None
    one_sided_min_size: Annotated[int, within(0)] = 0
    branch_affinity: Fraction = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        needs = {
            "singleton_size_ratio": ("iou_threshold", self.iou_threshold is not None),
            "one_sided_min_size": ("one_sided_threshold", self.one_sided_threshold is not None),
            "branch_affinity": (
                "iou_threshold, best_buddy or one_sided_threshold",
                self.unites_branches,
            ),
        }
        for name, (other, there) in needs.items():
            value = getattr(self, name)
            if value and not there:
                raise UserError(
                    f"decoding.{name} is {value}, which does nothing without decoding.{other}: "
                    f"set that, or decoding.{name}=0"
                )

    @property
    def unites_branches(self) -> bool:
        """Whether any segments are united."""
        thresholds = (self.iou_threshold, self.one_sided_threshold)
        return self.best_buddy or any(threshold is not None for threshold in thresholds)

    def check_sections(self, shape: tuple[int, ...]) -> None:
        """Raises UserError if segments are to be united but the volume has only one section."""
        if self.unites_branches and shape[0] < 2:
            raise UserError(
                "the prediction has one section; decoding.iou_threshold, best_buddy and "
                "one_sided_threshold unite segments of one section and the next"
            )


def merge_branches(sections: Sections, roots: np.ndarray, rules: BranchRules) -> np.ndarray:
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
