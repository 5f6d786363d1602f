"""The fragments of waterz's watershed on affinities without ties, by what defines them."""

import networkx
import numpy as np

from reference.affinity import inside, move, voxels

STEPS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def fragments_by_definition(affinities, low, high):
    """Sets of voxels: affinities (3, Z, Y, X), channel a at v for the pair (v, v - e_a)."""
    shape = affinities.shape[1:]
    graph = networkx.Graph()
    for here in voxels(shape):
        edges = []
        for axis, step in enumerate(STEPS):
            before, after = move(here, step, -1), move(here, step)
            if inside(before, shape):
                edges.append((affinities[(axis, *here)], before))
            if inside(after, shape):
                edges.append((affinities[(axis, *after)], after))
        strongest = max(edges, default=(0, None))
        if strongest[0] <= low:
            continue
        graph.add_node(here)
        for value, there in edges:
            if value == strongest[0] or value >= high:
                graph.add_edge(here, there)
    return {frozenset(part) for part in networkx.connected_components(graph)}


def parts(labels):
    """The sets of voxels that share a label above 0."""
    return {
        frozenset(map(tuple, np.argwhere(labels == label).tolist()))
        for label in np.unique(labels)
        if label
    }
