"""Segments united across sections, from label volumes, as the definition says it."""

from fractions import Fraction

import numpy as np

from reference.agglomeration import UNIT, whole


def boundary_rows(labels, affinities):
    """[(z, i, j, size_i, size_j, overlap, mean)] where i ends in z or j begins in z + 1, in order.

    `affinities` (Z, Y, X), at v for the pair of v and the voxel before it along axis 0.
    """
    depth, height, width = labels.shape
    found, sections, sizes = {}, {}, {}
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                j = int(labels[z, y, x])
                sections.setdefault(j, set()).add(z)
                sizes[z, j] = sizes.get((z, j), 0) + 1
                i = int(labels[z - 1, y, x]) if z else 0
                if i and j and i != j:
                    found.setdefault((z - 1, i, j), []).append(float(affinities[z, y, x]))
    rows = []
    for (z, i, j), own in sorted(found.items()):
        if max(sections[i]) == z or min(sections[j]) == z + 1:
            mean = Fraction(sum(map(whole, own)), UNIT * len(own))
            strict = max(sections[i]) == z and min(sections[j]) == z + 1
            rows.append((z, i, j, sizes[z, i], sizes[z + 1, j], len(own), mean, strict))
    return rows


class Groups:
    def __init__(self):
        self.parents = {}

    def root(self, label):
        while label in self.parents:
            label = self.parents[label]
        return label

    def unite(self, one, two):
        one, two = sorted((self.root(one), self.root(two)))
        if one != two:
            self.parents[two] = one


def branch_merged(
    labels,
    affinities,
    *,
    iou_threshold=None,
    singleton_size_ratio=0.0,
    best_buddy=False,
    one_sided_threshold=None,
    one_sided_min_size=0,
    branch_affinity=0.0,
):
    """The label of each united segment is the smallest of those in it."""
    rows = [
        row
        for row in boundary_rows(labels, affinities)
        if not branch_affinity or np.float32(float(row[6])) >= np.float32(branch_affinity)
    ]
    groups = Groups()
    boundaries = range(len(labels) - 1)
    if iou_threshold is not None:
        for z in boundaries:
            iou_stage(groups, [r for r in rows if r[0] == z], iou_threshold, singleton_size_ratio)
    if best_buddy:
        for z in boundaries:
            buddy_stage(groups, [row for row in rows if row[0] == z and row[7]])
    if one_sided_threshold is not None:
        for _, i, j, size_i, size_j, overlap, _, _ in rows:
            smaller = min(size_i, size_j)
            if overlap / smaller >= one_sided_threshold and smaller >= one_sided_min_size:
                groups.unite(i, j)
    return np.vectorize(groups.root, otypes=[np.int64])(labels)


def iou_stage(groups, rows, threshold, ratio):
    united = set()
    for _, i, j, size_i, size_j, overlap, _, _ in rows:
        if overlap / (size_i + size_j - overlap) >= threshold:
            groups.unite(i, j)
            united |= {i, j}
    for _, i, j, size_i, size_j, _, _, _ in rows:
        if ratio and min(size_i, size_j) / max(size_i, size_j) >= ratio and not {i, j} <= united:
            groups.unite(i, j)
            united |= {i, j}


def buddy_stage(groups, rows):
    pairs = [(groups.root(row[1]), groups.root(row[2]), row[5]) for row in rows]
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    forward, backward = {}, {}
    for below, above, overlap in pairs:
        if overlap > forward.get(below, (0, 0))[1]:
            forward[below] = above, overlap
        if overlap > backward.get(above, (0, 0))[1]:
            backward[above] = below, overlap
    for below, (above, _) in forward.items():
        if backward[above][0] == below:
            groups.unite(below, above)
