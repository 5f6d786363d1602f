"""What metrics are by their definitions, over lists of voxels and by trying everything."""

from collections import Counter
from itertools import combinations, permutations
from math import log2, sqrt

import numpy as np


def known_pairs(segmentation, truth):
    pairs = zip(truth.ravel().tolist(), segmentation.ravel().tolist(), strict=True)
    return [(one, two) for one, two in pairs if one != -1]


def labelled_pairs(segmentation, truth):
    return [pair for pair in known_pairs(segmentation, truth) if pair[0] != 0]


def adapted_rand_snemi(segmentation, truth):
    """(error, precision, recall) with the c / n for voxels that the segmentation leaves out."""
    pairs = labelled_pairs(segmentation, truth)
    alone = sum(two == 0 for _, two in pairs) / truth.size
    joint = sum(n * n for (_, two), n in Counter(pairs).items() if two) + alone
    ours = sum(n * n for two, n in Counter(two for _, two in pairs).items() if two) + alone
    theirs = sum(n * n for n in Counter(one for one, _ in pairs).values())
    return 1 - 2 * joint / (ours + theirs), joint / ours, joint / theirs


def adapted_rand_skimage(segmentation, truth):
    """(error, precision, recall) by looking at every two voxels."""
    joint = ours = theirs = 0
    for (one, two), (other_one, other_two) in combinations(labelled_pairs(segmentation, truth), 2):
        same_object, same_segment = one == other_one, two == other_two
        joint += same_object and same_segment
        ours += same_segment
        theirs += same_object
    error = 1 - (2 * joint / (ours + theirs) if ours + theirs else 1)
    return error, joint / ours if ours else 1, joint / theirs if theirs else 1


def voi_by_definition(segmentation, truth):
    """(split, merge) in bits, from entropies of single and of joint distributions."""
    pairs = labelled_pairs(segmentation, truth)

    def entropy(items):
        counts = Counter(items)
        return -sum(n / len(pairs) * log2(n / len(pairs)) for n in counts.values())

    both = entropy(pairs)
    return both - entropy(one for one, _ in pairs), both - entropy(two for _, two in pairs)


def cremi_by_definition(segmentation, truth, *, gt0):
    """(score, split, merge, rand) from the voxels; the ids are moved up as CREMI does."""
    if gt0 == "counted":
        truth = truth.astype(object) + 1
    split, merge = voi_by_definition(segmentation, truth)
    error = adapted_rand_snemi(segmentation, truth)[0]
    return sqrt((split + merge) * error), split, merge, error


def best_matchings(segmentation, truth, threshold):
    """The matched IoU of every best matching, each a sorted list, by trying all matchings.

    Best is the most pairs of `threshold` or more, then the greatest sum of all taken IoU.
    """
    known = truth != -1
    ours, theirs = segmentation[known], truth[known]
    objects, segments = (sorted({*ids.tolist()} - {0}) for ids in (theirs, ours))
    iou = np.zeros((len(objects), len(segments)))
    for row, one in enumerate(objects):
        for column, two in enumerate(segments):
            both, either = (theirs == one) & (ours == two), (theirs == one) | (ours == two)
            iou[row, column] = both.sum() / either.sum()
    if len(objects) > len(segments):
        iou = iou.T
    found = {}
    for columns in permutations(range(iou.shape[1]), iou.shape[0]):
        taken = [float(iou[row, column]) for row, column in enumerate(columns)]
        good = sorted(value for value in taken if value >= threshold)
        found.setdefault((len(good), round(sum(taken), 9)), []).append(good)
    return found[max(found)], len(objects), len(segments)


def near_borders(truth, within):
    """Where a border pixel (dy, dx) away has `within(dy, dx)`, in each section, pixel by pixel."""
    near = np.zeros(truth.shape, bool)
    for section, marks in zip(truth, near, strict=True):
        edge = np.pad(section, 1, mode="edge")
        border = [
            (y, x)
            for y, x in np.ndindex(section.shape)
            if any(
                edge[y + 1 + dy, x + 1 + dx] != section[y, x]
                for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1))
            )
        ]
        for y, x in np.ndindex(section.shape):
            marks[y, x] = any(within(y - other_y, x - other_x) for other_y, other_x in border)
    return near
