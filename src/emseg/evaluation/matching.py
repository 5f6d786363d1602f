"""One-to-one matching of the instances of a segmentation with those of its truth."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from emseg.errors import UserError
from emseg.evaluation.table import Contingency, table_of


def instance_matching(
    segmentation: np.ndarray | None,
    truth: np.ndarray | None,
    *,
    iou_thresholds: Sequence[float] = (0.5, 0.75),
    table: Contingency | None = None,
) -> dict[str, float]:
    """How many instances were found, and how well, at each threshold of their overlap.

    Instances are all ids except 0. A pair may be matched if its intersection over union (IoU) is
    the threshold or more. Each instance is paired once, so that the number of matched pairs is
    largest and then the sum of IoU over all pairs, matched or not. An instance's size counts all
    its voxels, also those where the other volume is 0; a segment that lies only where the truth is
    -1 is no instance. Definitions are those of StarDist's `matching` (Schmidt et al., MICCAI 2018)
    and, for `pq`, Kirillov et al., CVPR 2019; the table of overlaps is sparse.

    Args:
        segmentation, truth: integers of any dtype and one shape; not used if there is a `table`.
            Where the truth is -1 nothing counts.
        iou_thresholds: in (0, 1], one or more, none twice.
        table: the contingency table of both.

    Returns:
        For each threshold t, `instance_<name>_<t>`: `tp` the matched pairs, `fp` the segments and
        `fn` the objects left over, `precision` (0 of no segments), `recall`, `f1`, `accuracy` =
        tp / (tp + fp + fn) (called AP by some), `pq` (panoptic quality) = sum of matched IoU /
        (tp + fp / 2 + fn / 2), and `mean_true_score` = the same sum / objects.

    Raises:
        UserError: the truth has no objects, or the thresholds are not such.
    """
    check_thresholds(iou_thresholds, metric="instance_matching")
    overlaps = Overlaps(table_of(segmentation, truth, table, background=True))
    scores: dict[str, float] = {}
    for threshold in iou_thresholds:
        matched = overlaps.iou[overlaps.best_pairs(threshold)]
        named = _scores(matched, overlaps.objects, overlaps.segments)
        scores |= {f"instance_{name}_{float(threshold)}": one for name, one in named.items()}
    return scores


def _scores(matched: np.ndarray, objects: int, segments: int) -> dict[str, float]:
    tp = len(matched)
    fp, fn = segments - tp, objects - tp
    total = float(matched.sum())
    return {
        "tp": float(tp),
        "fp": float(fp),
        "fn": float(fn),
        "precision": tp / segments if segments else 0.0,
        "recall": tp / objects,
        "f1": 2 * tp / (2 * tp + fp + fn),
        "accuracy": tp / (tp + fp + fn),
        "pq": total / (tp + fp / 2 + fn / 2),
        "mean_true_score": total / objects,
    }


def check_thresholds(thresholds: Sequence[float], *, metric: str) -> None:
    """Raises UserError if a metric's threshold of IoU is not in (0, 1], or is given twice."""
    key = f"{metric}: iou_thresholds"
    if not len(thresholds) or len({*thresholds}) < len(thresholds):
        raise UserError(f"{key}: {list(thresholds)} must be one or more, none of them twice")
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            raise UserError(f"{key}: {threshold} is out of range, it must be in (0, 1]")


class Overlaps:
    """The pairs of instances that overlap: `truth` and `segment`, numbered from 0, and `iou`.

    Numbers are the ranks of ids among those of the table, 0 included; `objects` and `segments`
    count the instances. Raises UserError if the table has no objects.
    """

    def __init__(self, table: Contingency) -> None:
        objects, segments = table.truth_sizes, table.segmentation_sizes
        pairs = (table.truth != 0) & (table.segmentation != 0)
        self.truth, self.segment = table.truth_index[pairs], table.segmentation_index[pairs]
        shared = table.counts[pairs]
        self.iou = shared / (objects[self.truth] + segments[self.segment] - shared)
        # 0 is no instance.
        self.objects = len(objects) - int((table.truth == 0).any())
        self.segments = len(segments) - int((table.segmentation == 0).any())
        if not self.objects:
            raise UserError("the truth holds no object (all is 0 or -1): nothing to match")

    def best_pairs(self, threshold: float) -> np.ndarray:
        """The numbers of the overlaps that are matched at the threshold."""
        good = self.iou >= threshold
        alone = good & _once(self.truth, good) & _once(self.segment, good)
        if np.array_equal(alone, good):  # always so above 0.5
            return np.flatnonzero(good)
        # A good pair whose ends are in no other one is in every best matching, and settled.
        free = ~np.isin(self.truth, self.truth[alone]) & ~np.isin(self.segment, self.segment[alone])
        rest = self._beside_good(np.flatnonzero(free), good)
        taken = rest[_assigned(self.truth[rest], self.segment[rest], self.iou[rest], good[rest])]
        return np.concatenate([np.flatnonzero(alone), taken[good[taken]]])

    def _beside_good(self, pairs: np.ndarray, good: np.ndarray) -> np.ndarray:
        """The pairs that are connected to a good one: no others compete with it."""
        first_segment = self.truth.max() + 1
        nodes = first_segment + self.segment.max() + 1
        ends = (self.truth[pairs], first_segment + self.segment[pairs])
        graph = coo_array((np.ones(len(pairs)), ends), shape=(nodes, nodes))
        component = connected_components(graph, directed=False)[1][ends[0]]
        return pairs[np.isin(component, component[good[pairs]])]


def _once(ids: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """For each pair, whether its id occurs in at most one chosen pair."""
    return np.bincount(ids, weights=chosen)[ids] <= 1


def _assigned(
    truth: np.ndarray, segment: np.ndarray, iou: np.ndarray, good: np.ndarray
) -> np.ndarray:
    """The pairs chosen: as many good ones as possible, then the greatest sum of IoU."""
    objects, rows = np.unique(truth, return_inverse=True)
    segments, columns = np.unique(segment, return_inverse=True)
    # The sum of all IoU counts at most as half a good pair.
    worth = good + iou / (2 * min(len(objects), len(segments)))
    # An object may remain alone: a column of its own, of value 0. A cost of 0 would be no edge.
    own = np.arange(len(objects))
    costs = csr_array(
        (
            np.concatenate([2 - worth, np.full(len(own), 2.0)]),
            (np.concatenate([rows, own]), np.concatenate([columns, len(segments) + own])),
        )
    )
    taken = min_weight_full_bipartite_matching(costs)
    pair_keys = rows * costs.shape[1] + columns
    return np.isin(pair_keys, taken[0].astype(np.int64) * costs.shape[1] + taken[1])
