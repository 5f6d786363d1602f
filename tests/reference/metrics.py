"""Adapted Rand error and variation of information by their definitions, over voxel lists."""

from collections import Counter
from itertools import combinations
from math import log2


def labelled_pairs(segmentation, truth):
    pairs = zip(truth.ravel().tolist(), segmentation.ravel().tolist(), strict=True)
    return [(one, two) for one, two in pairs if one not in (0, -1)]


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
