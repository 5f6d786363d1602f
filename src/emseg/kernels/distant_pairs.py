"""Links between labels, from pairs of voxels that are not direct neighbours."""

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.pair_keys import place_of, twice_as_long
from emseg.kernels.region_edges import EDGE, SUM_UNIT


@kernel
def distant_edges(labels, values, levels, partner):
    """The pairs of different labels at v and v + `partner`: EDGEs, in the order they were found.

    Pairs that lead out of the volume do not count.

    Args:
        labels: uint32 (Z, Y, X), 0 for background, which is linked to nothing.
        values: (Z, Y, X), at v the affinity of the pair: float32 or indices of `levels`.
        levels: affinities, float32; None if the values are affinities.
        partner: voxels along each axis, any sign.
    """
    depth, height, width = labels.shape
    dz, dy, dx = partner
    keys, ids = np.zeros(1024, np.uint64), np.empty(1024, np.int32)
    edges = np.empty(512, EDGE)
    n = 0
    for z in range(max(0, -dz), min(depth, depth - dz)):
        for y in range(max(0, -dy), min(height, height - dy)):
            while n + width > len(edges):
                edges = np.concatenate((edges, np.empty(len(edges), EDGE)))
            while 2 * (n + width) > len(keys):
                keys, ids = twice_as_long(keys, ids)
            row, other, own = labels[z, y], labels[z + dz, y + dy], values[z, y]
            n = _add_row(row, other, own, levels, dx, keys, ids, edges, n)
    return edges[:n]


@kernel
def _add_row(row, other, values, levels, dx, keys, ids, edges, n):
    """Adds a row's pairs and returns the new number of edges; the arrays must be long enough."""
    before, place = np.uint64(0), 0
    for x in range(max(0, -dx), min(len(row), len(row) - dx)):
        one, two = row[x], other[x + dx]
        if one == two or one == 0 or two == 0:
            continue
        u, v = min(one, two), max(one, two)
        key = np.uint64(u) << np.uint64(32) | np.uint64(v)
        # Along a row most voxels have the same pair as the voxel before.
        if key != before:
            place, before = place_of(keys, key), key
        if keys[place] == 0:
            keys[place], ids[place] = key, n
            new = edges[n]
            new.u, new.v, new.max, new.count, new.sum = u, v, 0, 0, 0
            n += 1
        value = values[x] if levels is None else levels[values[x]]
        edge = edges[ids[place]]
        edge.max = max(edge.max, value)
        edge.count += 1
        edge.sum += np.int64(np.float64(value) * SUM_UNIT + 0.5)
    return n
