"""Region graph of a labelled block: which fragments touch, and their affinities."""

import numpy as np

from emseg.kernels.compiled import kernel

# One edge of a region graph, u < v: over all pairs of neighbouring voxels between the two, the
# largest affinity, how many there are, and the sum of affinities in units of 1 / SUM_UNIT.
EDGE = np.dtype(
    [("u", np.int32), ("v", np.int32), ("max", np.float32), ("count", np.int32), ("sum", np.int64)]
)

# Sums of integers, unlike sums of floats, do not depend on their order. With this unit they are
# exact in a float64 for contacts of up to 2^25 pairs of voxels.
SUM_UNIT = 1 << 28

# Places of a hash table that belong to one label; see `_place_of`.
_NEAR = 16


def find_edges(labels, affinities, at, axes, levels, count, limit, with_bins):
    """(edges, contacts) of the labels of a block, edges in any order.

    Only pairs of voxels within the block count. Stops when there are more than `limit` edges.

    Args:
        labels: uint32 (Z, Y, X), from 1 to `count`; 0 for background, which touches nothing.
        affinities: per axis that of voxel v with the one before it, at v + `at[a]`: float32 or
            indices of `levels`.
        axes: only pairs along the first so many axes count.
        levels: affinities, float32; None if `affinities` are no indices of them.
        with_bins: whether contacts are listed.

    Returns:
        EDGEs, limit + 1 of them if there are more than `limit`; and an int64 for each pair of
        voxels: 256 * its edge's index + its bin (of 256). It is empty without `with_bins`.
    """
    depth, height, width = labels.shape
    # Made by numpy, since compiled code gets memory in small pages. Most graphs have fewer than 4
    # edges per label; for others the arrays get longer.
    room = 1 << min(4 * count + 3 * width, 3 * labels.size).bit_length()
    edges, ids = np.empty(room, EDGE), np.full(4 * room, -1, np.int32)
    contacts = np.empty(room if with_bins else 0, np.int64)
    arrays = tuple(affinities)
    row = n = met = 0
    while True:
        row, n, met = _add_rows(
            labels, arrays, at, axes, levels, limit, with_bins, row, edges, n, ids, contacts, met
        )
        if row == depth * height or n > limit:
            return edges[: min(n, limit + 1)], contacts[:met]
        if met + 3 * width > len(contacts):
            contacts = np.concatenate((contacts, np.empty_like(contacts)))
        if n + 3 * width > len(edges):
            edges = np.concatenate((edges, np.empty_like(edges)))
            ids = np.full(2 * len(ids), -1, np.int32)
            _enter(edges[:n], ids)


@kernel
def _add_rows(
    labels, arrays, at, axes, levels, limit, with_bins, first, edges, n, ids, contacts, met
):
    """Adds rows from number `first` on, while there is room: (next row, edges, contacts)."""
    depth, height, width = labels.shape
    edges0, edges1, edges2 = arrays
    touching, near = np.empty(width, np.uint8), np.empty(width, edges0.dtype)
    places = np.empty(width + 1, np.uint32)
    sums, found = np.empty(width + 1, EDGE), np.empty(width + 1, np.int32)
    for row in range(first, depth * height):
        full = n + 3 * width > len(edges) or (with_bins and met + 3 * width > len(contacts))
        if full or n > limit:
            return row, n, met
        z, y = row // height, row % height
        for axis in range(axes):
            if axis == 0:
                own, other = labels[z, y], labels[max(z - 1, 0), y]
                values = edges0[z + at[0, 0], y + at[0, 1], at[0, 2] :]
            elif axis == 1:
                own, other = labels[z, y], labels[z, max(y - 1, 0)]
                values = edges1[z + at[1, 0], y + at[1, 1], at[1, 2] :]
            else:
                own, other = labels[z, y, 1:], labels[z, y, :-1]
                values = edges2[z + at[2, 0], y + at[2, 1], at[2, 2] + 1 :]
            count = _touching(own, other, values, touching, near, places)
            runs = _add_up_runs(own, other, places, count, near, levels, sums)
            n = _add_sums(sums, runs, edges, n, ids, found)
            if with_bins:
                _note_bins(own, other, places, count, near, levels, found, contacts, met)
                met += np.int64(count)
    return depth * height, n, met


@kernel
def _touching(own, other, values, touching, near, places):
    """The number of places where two different labels touch, which are put in `places`."""
    # One type and no branch: the compiler uses vector instructions.
    for x in range(len(own)):
        one, two = own[x], other[x]
        touching[x] = np.uint8(1) if (one != two) & (one != 0) & (two != 0) else np.uint8(0)
    # Memory that is read from end to end is fetched in advance.
    for x in range(len(own)):
        near[x] = values[x]
    count = np.uint32(0)
    for x in range(len(own)):
        # Always written, and overwritten if it is none: a branch here is hard to predict.
        places[count] = x
        count += np.uint32(touching[x])
    return count


@kernel
def _add_up_runs(own, other, places, n_places, values, levels, sums):
    """Adds up contacts of the same two labels that follow each other: fills sums[1 : returned]."""
    last, run = np.uint64(0), np.uint64(0)
    largest, count, total = np.float32(0), np.int64(0), np.int64(0)
    for place in range(n_places):
        x = np.int64(places[place])
        one, two = own[x], other[x]
        value = _level(levels, values[x])
        pair = np.uint64(one) << np.uint64(32) | np.uint64(two)
        new = pair != last
        last = pair
        # No branches. `keep` has all bits or none.
        run += np.uint64(new)
        keep = np.int64(new) - 1
        before = np.float32(0) if new else largest
        largest = value if value > before else before
        count = (count & keep) + 1
        total = (total & keep) + np.int64(np.float64(value) * SUM_UNIT + 0.5)
        # Overwritten until the run ends.
        sum_ = sums[run]
        sum_.u, sum_.v = min(one, two), max(one, two)
        sum_.max, sum_.count, sum_.sum = largest, count, total
    return np.int64(run) + 1


@kernel
def _add_sums(sums, runs, edges, n, ids, found):
    """Adds sums[1:] to the edges, whose number is returned; `found` gets their places."""
    for run in range(1, runs):
        new = sums[run]
        place = _place_of(new.u, new.v, edges, ids)
        found[run] = ids[place]
        if ids[place] < 0:
            found[run] = ids[place] = n
            edges[n] = new
            n += 1
        else:
            edge = edges[ids[place]]
            edge.max = max(edge.max, new.max)
            edge.count += new.count
            edge.sum += new.sum
    return n


@kernel
def _place_of(u, v, edges, ids):
    """Where `ids`, 2^k places, at most a quarter in use, has the edge of u and v, or room for it.

    A free place is -1. Labels used at the same time are close together, as they are numbered in C
    order, so each has a few places in that order. Other edges are where their hash says.
    """
    last = np.uint64(len(ids) - 1)
    mixed = (np.uint64(u) << np.uint64(32) | np.uint64(v)) * np.uint64(0x9E3779B97F4A7C15)
    place = (np.uint64(v) * np.uint64(_NEAR) + (mixed >> np.uint64(60))) & last
    tries = 0
    while ids[place] >= 0 and (edges[ids[place]].u != u or edges[ids[place]].v != v):
        tries += 1
        place = (mixed >> np.uint64(20) if tries == _NEAR else place + np.uint64(1)) & last
    return place


@kernel
def _enter(edges, ids):
    for n in range(len(edges)):
        ids[_place_of(edges[n].u, edges[n].v, edges, ids)] = n


@kernel
def _note_bins(own, other, places, n_places, values, levels, found, contacts, met):
    last_one, last_two, run = np.uint32(0), np.uint32(0), 0
    for place in range(n_places):
        x = np.int64(places[place])
        run += own[x] != last_one or other[x] != last_two
        last_one, last_two = own[x], other[x]
        value = _level(levels, values[x])
        bin_ = min(np.int64(value * np.float32(256)), 255)
        contacts[met + np.int64(place)] = 256 * np.int64(found[run]) + bin_


@kernel
def _level(levels, value):
    return value if levels is None else levels[value]
