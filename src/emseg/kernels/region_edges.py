"""Region graph of a labelled block: which fragments touch, and their affinities."""

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.pair_keys import place_of, twice_as_long
from emseg.kernels.prefetch import prefetch

# One edge of a region graph, u < v: over all pairs of neighbouring voxels between the two, the
# largest affinity, how many there are, and the sum of affinities in units of 1 / SUM_UNIT.
EDGE = np.dtype(
    [("u", np.int32), ("v", np.int32), ("max", np.float32), ("count", np.int32), ("sum", np.int64)]
)

# Sums of integers, unlike sums of floats, do not depend on their order. With this unit they are
# exact in a float64 for contacts of up to 2^25 pairs of voxels.
SUM_UNIT = 1 << 28

# How many neighbours with a smaller label a label stores in its own cache line, with their edges;
# others are in a common hash table. Labels are numbered in C order, so labels used at the same time
# are close together.
_NEAR = 8
_ROW = np.dtype([("u", np.int32, _NEAR), ("edge", np.int32, _NEAR)])

# A pair of voxels of two labels: its place in a row and its axis; then its edge and affinity.
_CONTACT = np.dtype(
    [
        ("u", np.int32),
        ("v", np.int32),
        ("x", np.int32),
        ("axis", np.int32),
        ("edge", np.int32),
        ("value", np.float32),
    ]
)


@kernel
def find_edges(labels, edges0, edges1, edges2, at, axes, levels, count, limit, with_bins):
    """(edges, contacts) of the labels of a block, edges in the order in which they were found.

    Only pairs of voxels within the block count. Stops when there are more than `limit` edges.

    Args:
        labels: uint32 (Z, Y, X), from 1 to `count`; 0 for background, which touches nothing.
        edges0, edges1, edges2: per axis the affinity of voxel v with the one before it, at
            v + `at[a]`: float32 or indices of `levels`.
        axes: only pairs along the first so many axes count.
        levels: affinities, float32; None if `edges0` … are affinities.
        with_bins: whether contacts are listed.

    Returns:
        EDGEs, limit + 1 of them if there are more than `limit`; and an int64 for each pair of
        voxels: 256 * its edge's index + its bin (of 256). It is empty without `with_bins`.
    """
    depth, height, width = labels.shape
    near = np.zeros(count + 1, _ROW)
    keys, ids = np.zeros(1024, np.uint64), np.empty(1024, np.int32)
    edges, notes = np.empty(1024, EDGE), np.empty(1024 if with_bins else 0, np.int64)
    n, far, met = 0, 0, 0
    buffer = np.empty(3 * width + 1, _CONTACT)
    for z in range(depth):
        for y in range(height):
            up, below = labels[z, max(y - 1, 0)], labels[max(z - 1, 0), y]
            touched = _touching(labels[z, y], up, below, axes, buffer)
            contacts = buffer[:touched]
            row0, row1 = edges0[z + at[0, 0], y + at[0, 1]], edges1[z + at[1, 0], y + at[1, 1]]
            row2 = edges2[z + at[2, 0], y + at[2, 1]]
            _look_up_values(contacts, row0, row1, row2, at, levels)
            # Enlarge before the inner loop: one that makes arrays counts references at every step.
            while n + touched > len(edges):
                edges = np.concatenate((edges, np.empty(len(edges), EDGE)))
            while 2 * (far + touched) > len(keys):
                keys, ids = twice_as_long(keys, ids)
            n, far = _look_up_edges(contacts, near, keys, ids, edges, n, far)
            if n > limit:
                return edges[: limit + 1], notes[:met]
            _add(contacts, edges)
            if with_bins:
                while met + touched > len(notes):
                    notes = np.concatenate((notes, np.empty(len(notes), np.int64)))
                _note_bins(contacts, notes[met:])
                met += touched
    return edges[:n], notes[:met]


@kernel
def _touching(own, up, below, axes, contacts):
    """The number of contacts of a row with the voxels before it, which are put in `contacts`."""
    count, before = 0, own[0]
    for x in range(len(own)):
        label = own[x]
        three = (below[x], up[x], before)
        before = label
        for axis in range(axes):
            other = three[axis]
            # Always written, and overwritten if it is no contact: a branch here is hard to predict.
            contact = contacts[count]
            contact.u, contact.v = min(other, label), max(other, label)
            contact.x, contact.axis = x, axis
            count += other != label and other != 0 and label != 0
    return count


@kernel
def _look_up_values(contacts, row0, row1, row2, at, levels):
    for contact in contacts:
        if contact.axis == 0:
            contact.value = _level(levels, row0[contact.x + at[0, 2]])
        elif contact.axis == 1:
            contact.value = _level(levels, row1[contact.x + at[1, 2]])
        else:
            contact.value = _level(levels, row2[contact.x + at[2, 2]])


@kernel
def _look_up_edges(contacts, near, keys, ids, edges, n, far):
    """Finds or makes the edge of each contact; returns the numbers of edges and of used keys."""
    for place in range(len(contacts)):
        prefetch(near, contacts[min(place + 8, len(contacts) - 1)].v)
        u, v = contacts[place].u, contacts[place].v
        row, slot, edge = near[v], 0, np.int64(n)
        while slot < _NEAR and row.u[slot] != u and row.u[slot] != 0:
            slot += 1
        if slot < _NEAR and row.u[slot] == u:
            edge = np.int64(row.edge[slot])
        elif slot < _NEAR:
            row.u[slot], row.edge[slot] = u, n
        else:
            key = np.uint64(u) << np.uint64(32) | np.uint64(v)
            spot = place_of(keys, key)
            if keys[spot] == key:
                edge = np.int64(ids[spot])
            else:
                keys[spot], ids[spot] = key, n
                far += 1
        if edge == n:
            new = edges[n]
            new.u, new.v, new.max, new.count, new.sum = u, v, 0, 0, 0
            n += 1
        contacts[place].edge = edge
        prefetch(edges, edge)
    return n, far


@kernel
def _add(contacts, edges):
    for contact in contacts:
        edge, value = edges[contact.edge], contact.value
        edge.max = max(edge.max, value)
        edge.count += 1
        edge.sum += np.int64(np.float64(value) * SUM_UNIT + 0.5)


@kernel
def _note_bins(contacts, notes):
    for place in range(len(contacts)):
        edge, value = np.int64(contacts[place].edge), contacts[place].value
        notes[place] = 256 * edge + min(np.int64(value * np.float32(256)), 255)


@kernel
def _level(levels, value):
    return value if levels is None else levels[value]
