"""One numbering for labels that were made block by block."""

import numpy as np

from emseg.kernels.compiled import kernel


@kernel
def unite_pairs(parents, ones, twos):
    """Unites ones[i] with twos[i], for all i, in the forest `parents`; a root is its own parent."""
    for pair in range(len(ones)):
        one, two = np.int64(ones[pair]), np.int64(twos[pair])
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = np.int64(parents[one])
        while parents[two] != two:
            parents[two] = parents[parents[two]]
            two = np.int64(parents[two])
        if one < two:
            parents[two] = one
        else:
            parents[one] = two


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
