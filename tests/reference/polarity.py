"""Directed synapses by looking at every voxel, every two regions and every pairing."""

from itertools import combinations, permutations, product

import numpy as np


def directed_synapses(probabilities, *, threshold, max_distance, smallest, voxel_size):
    """Labels 2 s - 1 and 2 s from (2 or 3, Z, Y, X), with Python's own numbers."""
    sides = {}
    for at in np.ndindex(probabilities.shape[1:]):
        pre, post, *both = (float(value) for value in probabilities[:, *at])
        if max(pre, post) > threshold and all(value > threshold for value in both):
            sides[at] = "pre" if pre >= post else "post"
    regions = [one for one in _regions(sides) if len(one) >= smallest]
    pres = [n for n, one in enumerate(regions) if sides[one[0]] == "pre"]
    posts = [n for n, one in enumerate(regions) if sides[one[0]] == "post"]
    pairs = []
    for rank in (_by_contact, _by_gap):
        ranked = []
        for pre, post in product(pres, posts):
            worth = rank(regions[pre], regions[post], voxel_size, max_distance)
            if worth is not None:
                ranked.append((worth, pre, post))
        for _, pre, post in sorted(ranked):
            if pre in pres and post in posts:
                pres.remove(pre)
                posts.remove(post)
                pairs.append((pre, post))
    labels = np.zeros(probabilities.shape[1:], np.uint32)
    for number, pair in enumerate(sorted(pairs, key=min), 1):
        for name, region in zip((2 * number - 1, 2 * number), pair, strict=True):
            for at in regions[region]:
                labels[at] = name
    return labels


def _regions(sides):
    """Lists of voxels, those with the first first; a region's own in C order."""
    left, found = dict(sides), []
    while left:
        first = min(left)
        side = left.pop(first)
        region, waiting = [first], [first]
        while waiting:
            z, y, x = waiting.pop()
            for step in product((-1, 0, 1), repeat=3):
                near = (z + step[0], y + step[1], x + step[2])
                if left.get(near) == side:
                    del left[near]
                    region.append(near)
                    waiting.append(near)
        found.append(sorted(region))
    return found


def _by_contact(pre, post, voxel_size, _):
    dz, dy, dx = voxel_size
    area = 0
    for one, other in product(pre, post):
        apart = [abs(a - b) for a, b in zip(one, other, strict=True)]
        area += {(1, 0, 0): dy * dx, (0, 1, 0): dz * dx, (0, 0, 1): dz * dy}.get((*apart,), 0)
    return -area if area else None


def _by_gap(pre, post, voxel_size, max_distance):
    squares = [
        sum(((a - b) * nm) ** 2 for a, b, nm in zip(one, other, voxel_size, strict=True))
        for one, other in product(pre, post)
    ]
    return min(squares) if min(squares) <= max_distance**2 else None


def directed_counts(segmentation, truth, threshold):
    """(found, found with direction) of each best matching of synapses, by trying all matchings."""
    known = truth != -1
    ours, theirs = (
        {s: (ids[known] == 2 * s - 1, ids[known] == 2 * s) for s in _numbers(ids[known])}
        for ids in (segmentation, truth)
    )
    iou, right = {}, {}
    for (s, (pre, post)), (t, (true_pre, true_post)) in product(ours.items(), theirs.items()):
        one, other = pre | post, true_pre | true_post
        iou[s, t] = (one & other).sum() / (one | other).sum()
        straight = (pre & true_pre).sum() + (post & true_post).sum()
        right[s, t] = straight > (pre & true_post).sum() + (post & true_pre).sum()
    best: dict = {}
    size = min(len(ours), len(theirs))
    for some in combinations(ours, size):
        for partners in permutations(theirs, size):
            taken = [*zip(some, partners, strict=True)]
            good = [pair for pair in taken if iou[pair] >= threshold]
            worth = (len(good), round(sum(iou[pair] for pair in taken), 12))
            best.setdefault(worth, set()).add((len(good), sum(right[pair] for pair in good)))
    return best[max(best)], len(ours), len(theirs)


def _numbers(ids):
    return sorted({(int(label) + 1) // 2 for label in ids if label > 0})
