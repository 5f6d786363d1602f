"""Forests of labels (union-find), and one numbering for labels of several blocks."""

import numpy as np

from emseg.kernels.compiled import kernel


@kernel
def root_of(parents, node):
    """The root of a node in the forest `parents`, whose paths are halved; a root is its own."""
    node = np.int64(node)
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = np.int64(parents[node])
    return node


@kernel
def unite(parents, one, two):
    """Unites the trees of two nodes; the smaller of their roots becomes the root."""
    one, two = root_of(parents, one), root_of(parents, two)
    parents[max(one, two)] = min(one, two)


@kernel
def unite_pairs(parents, ones, twos):
    """Unites ones[i] with twos[i], for all i, in the forest `parents`; a root is its own parent."""
    for pair in range(len(ones)):
        unite(parents, ones[pair], twos[pair])


@kernel
def earliest(parents, first):
    """Sets every parent to its root; returns per root the smallest `first` of its tree, else -1."""
    found = np.full(len(parents), -1, np.int64)
    for label in range(len(parents)):
        parents[label] = parents[parents[label]]
        root = parents[label]
        if found[root] < 0 or first[label] < found[root]:
            found[root] = first[label]
    return found


@kernel
def relabel(labels, table, out):
    """out[i] = table[labels[i]] for one-dimensional arrays; `out` may be `labels` itself."""
    for voxel in range(len(labels)):
        out[voxel] = table[labels[voxel]]
