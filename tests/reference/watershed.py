"""The fragments of a watershed on affinities, by what defines them, voxel by voxel.

Where waterz goes by its plateaus, among equal affinities, these take the first direction.
"""

import networkx
import numpy as np

from reference.affinity import inside, move, voxels
from reference.components import numbered

STEPS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def joined_pairs(affinities, low, high):
    """(voxels with an affinity above low, pairs (before, after) of voxels that are joined).

    Affinities (3, Z, Y, X), channel a at v for the pair (v - e_a, v). A voxel is joined to its
    strongest neighbour, of equals the first in the order -0, -1, -2, +0, +1, +2, and to all over
    affinities of at least high.
    """
    shape = affinities.shape[1:]
    foreground, pairs = set(), set()
    for here in voxels(shape):
        befores = [(axis, move(here, step, -1), here) for axis, step in enumerate(STEPS)]
        afters = [(axis, here, move(here, step)) for axis, step in enumerate(STEPS)]
        edges = [
            (affinities[(axis, *after)], before, after)
            for axis, before, after in befores + afters
            if inside(before, shape) and inside(after, shape)
        ]
        strongest = max((value for value, _, _ in edges), default=low)
        if strongest <= low:
            continue
        foreground.add(here)
        chosen = next(edge for edge in edges if edge[0] == strongest)
        for value, before, after in edges:
            if value >= high or (value, before, after) == chosen:
                pairs.add((before, after))
    return foreground, pairs


def fragment_labels(shape, foreground, pairs):
    """The components of the pairs as labels 1, 2, … by their first voxel, 0 for background."""
    labels = np.zeros(shape, np.int64)
    graph = networkx.Graph(pairs)
    graph.add_nodes_from(foreground)
    for number, part in enumerate(networkx.connected_components(graph), 1):
        labels[tuple(np.transpose(list(part)))] = number
    return numbered(labels)
