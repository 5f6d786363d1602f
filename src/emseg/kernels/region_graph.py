"""Region graph of a labelled block: which fragments touch, and what lies between them."""

import numpy as np
from numba import njit

# One edge of a region graph, u < v: over all pairs of neighbouring voxels between the two, the
# largest affinity, how many there are, and the sum of affinities in units of 1 / SUM_UNIT.
EDGE = np.dtype(
    [("u", np.int32), ("v", np.int32), ("max", np.float32), ("count", np.int32), ("sum", np.int64)]
)

# Sums of whole numbers are the same in any order, as sums of floats are not. With this unit they
# stay exact in a float64 for contacts of up to 2^25 pairs of voxels.
SUM_UNIT = 1 << 28

# Neighbours with a smaller label that a label keeps in a cache line of its own; the others share a
# hash table. Labels are numbered in C order, so those in use at a time lie close together.
_NEAR = 8


@njit(cache=True, nogil=True)
def find_edges(labels, edges0, edges1, edges2, at, axes, levels, count, limit, with_bins):
    """(edges, contacts) of the labels of a block, edges in the order in which they were met.

    `labels` uint32 (Z, Y, X), from 1 to `count`, 0 for background, which touches nothing. `edges0`
    … `edges2` hold per axis the affinity of voxel v with the one before it at v + `at[a]`; pairs
    that lead out of the block are left out, and so are those along other than the first `axes`
    axes. Affinities are float32 where `levels` is None, else indices of `levels` (float32). `edges`
    is an array of EDGE. With `with_bins` there is a contact for each pair of voxels, its edge's
    index and bin (of 256) as 256 * edge + bin; else none.

    Stops when there are more than `limit` edges: then edges has limit + 1 entries.
    """
    depth, height, width = labels.shape
    table = _new_table(count)
    keys, ids = np.zeros(1024, np.uint64), np.empty(1024, np.int32)
    far = 0
    edges = np.empty(1024, EDGE)
    contacts = np.empty(1024 if with_bins else 0, np.int64)
    n, met = 0, 0
    for z in range(depth):
        for y in range(height):
            own = labels[z, y]
            up, below = labels[z, max(y - 1, 0)], labels[max(z - 1, 0), y]
            row0, row1 = edges0[z + at[0, 0], y + at[0, 1]], edges1[z + at[1, 0], y + at[1, 1]]
            row2 = edges2[z + at[2, 0], y + at[2, 1]]
            before = own[0]
            for x in range(width):
                label = own[x]
                if label == before and label == up[x] and label == below[x]:
                    continue
                three = (below[x], up[x], before)
                before = label
                if label == 0:
                    continue
                for axis in range(axes):
                    other = three[axis]
                    if other == label or other == 0:
                        continue
                    if axis == 0:
                        value = _level(levels, row0[x + at[0, 2]])
                    elif axis == 1:
                        value = _level(levels, row1[x + at[1, 2]])
                    else:
                        value = _level(levels, row2[x + at[2, 2]])
                    u, v = (other, label) if other < label else (label, other)
                    slot = _near_slot(table, u, v)
                    if slot >= 0 and table[v, slot] == u:
                        edge = np.int64(table[v, slot + _NEAR])
                    else:
                        edge = np.int64(n)
                        if slot >= 0:
                            table[v, slot], table[v, slot + _NEAR] = u, n
                        else:
                            key = np.uint64(u) << np.uint64(32) | np.uint64(v)
                            place = _place(keys, key)
                            if keys[place] == key:
                                edge = np.int64(ids[place])
                            else:
                                keys[place], ids[place] = key, n
                                far += 1
                                if 2 * far > len(keys):
                                    keys, ids = _larger(keys, ids)
                        if edge == n:
                            if n == len(edges):
                                edges = np.concatenate((edges, np.empty(n, EDGE)))
                            edges[n].u, edges[n].v = u, v
                            edges[n].max, edges[n].count, edges[n].sum = value, 0, 0
                            n += 1
                            if n > limit:
                                return edges[:n], contacts[:met]
                    found = edges[edge]
                    found.max = max(found.max, value)
                    found.count += 1
                    found.sum += np.int64(np.float64(value) * SUM_UNIT + 0.5)
                    if with_bins:
                        if met == len(contacts):
                            contacts = np.concatenate((contacts, np.empty(met, np.int64)))
                        contacts[met] = 256 * edge + min(np.int64(value * np.float32(256)), 255)
                        met += 1
    return edges[:n], contacts[:met]


@njit(cache=True, nogil=True)
def _level(levels, value):
    return value if levels is None else levels[value]


@njit(cache=True, nogil=True)
def _new_table(count):
    # Untouched pages of zeros cost no memory.
    return np.zeros((count + 1, 2 * _NEAR), np.int32)


@njit(cache=True, nogil=True)
def _near_slot(table, u, v):
    """The slot of u, or the first free one, among the near neighbours of v; -1 if there is none."""
    for slot in range(_NEAR):
        if table[v, slot] == u or table[v, slot] == 0:
            return slot
    return -1


@njit(cache=True, nogil=True)
def _place(keys, key):
    # Linear probing; the keys' high bits must reach the low bits of the place.
    last = len(keys) - 1
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(last))
    while keys[place] != 0 and keys[place] != key:
        place = (place + 1) & last
    return place


@njit(cache=True, nogil=True)
def _larger(keys, ids):
    new_keys, new_ids = np.zeros(2 * len(keys), np.uint64), np.empty(2 * len(keys), np.int32)
    for old in range(len(keys)):
        if keys[old]:
            place = _place(new_keys, keys[old])
            new_keys[place], new_ids[place] = keys[old], ids[old]
    return new_keys, new_ids
