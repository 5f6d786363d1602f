"""Watershed fragments of affinities, as connected components; block by block.

A voxel is joined to its strongest neighbour, unless all its affinities are low, and to every
neighbour with a high affinity. This depends only on the affinities around a voxel, so blocks find
the same edges as the whole volume does.
"""

import numpy as np

from emseg.kernels.compiled import kernel

# Bits of a voxel's flags. 1, 2, 4: joined to the voxel before it along axis 0, 1, 2. 8, 16, 32:
# joined to the voxel after it, which gets the bit three places lower. 64: not background.
#
# Loops over a row have no branches, and as few wide types as possible: the compiler makes vector
# instructions of them, where it can, and no branch is hard to predict.


def flood(edges, at, missing, extent, lead, low, high, top, labels, joined):
    """Fragments of one block: (count, first voxels, sizes, whether all values are legal).

    The region has the shape `extent`: the block, `lead[a]` planes before it and 0 or 1 after it. Of
    equal affinities that are not high, the first in the order -0, -1, -2, +0, +1, +2 (axis, before
    or after) is the strongest.

    Args:
        edges: per axis, C-contiguous, the affinity of the region's voxel v with the one before it,
            at v + `at[a]`: numbers in the order of the affinities.
        at: (3, 3), see `edges`.
        missing: per axis; 1 if the region's first plane has no voxel before it: its values are not
            read.
        extent: voxels of the region.
        lead: per axis, 0 or 1.
        low: the largest value that joins nothing.
        high: the smallest value that always joins.
        top: the largest legal value; the smallest is 0.
        labels: uint32 (Z, Y, X) of the block alone; becomes 1, 2, … by the first voxel of each
            fragment in C order, 0 for background.
        joined: uint8 planes of the block's first face along each axis; become 1 where a voxel is
            joined to the one before it, outside the block. Such pairs join nothing here.

    Returns:
        The number of fragments; per label and 0 its first voxel (an index of the block in C order)
        and its voxels, int64; and whether all values are legal.
    """
    # Made by numpy, since compiled code gets memory in small pages. Only what is used is taken.
    parents = np.empty(labels.size + 1, np.uint32)
    edges, joined = tuple(edges), tuple(joined)
    count, legal = _label(edges, at, missing, extent, lead, low, high, top, labels, joined, parents)
    count = _rank(parents, count)
    first, sizes = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    _finish(labels, parents, first, sizes)
    return count, first, sizes, legal


@kernel
def _label(edges, at, missing, extent, lead, low, high, top, labels, joined, parents):
    """(number of labels, whether all values are legal); fills labels and, per label, parents."""
    depth, height, width = labels.shape
    edges0, edges1, edges2 = edges
    # One row and one column more, before the first.
    rows, columns = lead[1] + height, extent[2]
    chosen = np.zeros((1 + rows, 1 + columns), np.uint8)
    flags = np.zeros((2, rows, 1 + columns), np.uint8)
    none = np.full(columns, low, edges0.dtype)
    along = np.full(columns + 1, low, edges2.dtype)
    links, places = np.empty((height, width), np.uint8), np.empty(width + 1, np.uint32)
    begin, end = 1 + lead[2], 1 + lead[2] + width
    parents[0] = 0
    count, legal = np.uint32(0), True
    for z in range(lead[0] + depth):
        here, behind = flags[z & 1], flags[(z - 1) & 1]
        for y in range(rows):
            row2 = edges2[z + at[2, 0], y + at[2, 1]]
            for x in range(missing[2], columns):
                along[x] = row2[x + at[2, 2]]
            legal &= _flag_row(
                _row(edges0, at[0], z, y, none, z >= missing[0]),
                _row(edges1, at[1], z, y, none, y >= missing[1]),
                _row(edges0, at[0], z + 1, y, none, z + 1 < extent[0]),
                _row(edges1, at[1], z, y + 1, none, y + 1 < extent[1]),
                along,
                low,
                high,
                top,
                chosen[1 + y, 1:],
            )
        _take_choices(chosen, behind[:, 1:], here[:, 1:])
        plane = z - lead[0]
        if plane < 0:
            continue
        # The voxels after the block are no longer needed: only their choices were.
        own, before = here[lead[1] :, begin:end], here[lead[1] :, begin - 1 : end - 1]
        _note_faces(own, lead, plane, joined)
        _link(own, before, behind[lead[1] :, begin:end], links)
        below = labels[max(plane - 1, 0)]
        count = _label_plane(links, labels[plane], below, places, parents, count)
    return count, legal


@kernel
def _row(edges, at, z, y, none, there):
    return edges[z + at[0], y + at[1], at[2] : at[2] + len(none)] if there else none


@kernel
def _flag_row(before0, before1, after0, after1, along, low, high, top, flags):
    """Whether all values are legal; flags of voxels for what they choose. The watershed's rule."""
    illegal = np.uint8(0)
    for x in range(len(flags)):
        a, b, c = before0[x], before1[x], along[x]
        d, e, f = after0[x], after1[x], along[x + 1]
        best, chosen = a, np.uint8(1)
        chosen, best = np.uint8(2) if b > best else chosen, b if b > best else best
        chosen, best = np.uint8(4) if c > best else chosen, c if c > best else best
        chosen, best = np.uint8(8) if d > best else chosen, d if d > best else best
        chosen, best = np.uint8(16) if e > best else chosen, e if e > best else best
        chosen, best = np.uint8(32) if f > best else chosen, f if f > best else best
        sure = (a >= high) | (b >= high) << 1 | (c >= high) << 2
        flags[x] = np.uint8(64 | chosen | sure) if best > low else np.uint8(0)
        # Written so that NaN is illegal.
        fine = (a >= 0) & (b >= 0) & (c >= 0) & (a <= top) & (b <= top) & (c <= top)
        illegal = np.uint8(illegal | (not fine))
    return illegal == 0


@kernel
def _take_choices(chosen, behind, flags):
    own, up, before = chosen[1:, 1:], chosen[:-1, 1:], chosen[1:, :-1]
    rows, columns = flags.shape
    for y in range(rows):
        for x in range(columns):
            taken = behind[y, x] >> 3 & 1 | up[y, x] >> 3 & 2 | before[y, x] >> 3 & 4
            flags[y, x] = np.uint8(own[y, x] | taken)


@kernel
def _note_faces(inside, lead, plane, joined):
    # Pairs that lead out of the block are recorded, and join nothing in it.
    rows, columns = inside.shape
    joined0, joined1, joined2 = joined
    if lead[0] and plane == 0:
        for y in range(rows):
            for x in range(columns):
                joined0[y, x] = inside[y, x] & 1
                inside[y, x] &= 0xFE
    if lead[1]:
        for x in range(columns):
            joined1[plane, x] = (inside[0, x] >> 1) & 1
            inside[0, x] &= 0xFD
    if lead[2]:
        for y in range(rows):
            joined2[plane, y] = (inside[y, 0] >> 2) & 1
            inside[y, 0] &= 0xFB


@kernel
def _link(flags, before, below, links):
    """How a voxel is labelled. 1: as the one before; else 2: anew; 4: as up; else 8: as below.

    16, 32: it is then united with up, below.
    """
    rows, columns = links.shape
    for y in range(rows):
        # The first row's voxels are not joined to any up, so that it does not matter what is there.
        up = max(y - 1, 0)
        for x in range(columns):
            own = flags[y, x]
            on_z, on_y, on_x = own, own >> 1, own >> 2
            # An edge that closes a square of four joins nothing new.
            closes_y = on_x & before[y, x] >> 1 & flags[up, x] >> 2
            closes_z = on_x & before[y, x] & below[y, x] >> 2
            closes_z |= on_y & flags[up, x] & below[y, x] >> 1
            new = own >> 6 & ~(on_z | on_y | on_x)
            with_up, with_below = on_y & on_x & ~closes_y, on_z & (on_x | on_y) & ~closes_z
            label_of = on_x & 1 | (new & 1) << 1 | (on_y & 1) << 2 | (on_z & 1) << 3
            links[y, x] = np.uint8(label_of | (with_up & 1) << 4 | (with_below & 1) << 5)


@kernel
def _label_plane(links, labels, below, places, parents, count):
    for y in range(len(links)):
        own, up, down, link = labels[y], labels[max(y - 1, 0)], below[y], links[y]
        _take_labels(link, up, down, own)
        last, count = np.int64(count), _label_row(link, own, count)
        for new in range(last + 1, np.int64(count) + 1):
            parents[new] = new
        found = np.uint32(0)
        for x in range(len(own)):
            # Always written, and overwritten if nothing is to be united.
            places[found] = x
            found += np.uint32(link[x] > 15)
        for place in range(np.int64(found)):
            x = np.int64(places[place])
            if link[x] & 16:
                _unite(parents, own[x], up[x])
            if link[x] & 32:
                _unite(parents, own[x], down[x])
    return count


@kernel
def _take_labels(links, up, down, labels):
    for x in range(len(links)):
        one, two, link = up[x], down[x], links[x]
        labels[x] = one if link & np.uint8(4) else two if link & np.uint8(8) else np.uint32(0)


@kernel
def _label_row(links, labels, count):
    label = np.uint32(0)
    for x in range(len(links)):
        link = np.uint32(links[x])
        new = link >> np.uint32(1) & np.uint32(1)
        count = np.uint32(count + new)
        # All bits or none.
        keep, fresh = np.uint32(0) - (link & np.uint32(1)), np.uint32(0) - new
        label = np.uint32(label & keep | (labels[x] | count & fresh) & ~keep)
        labels[x] = label
    return count


@kernel
def _unite(parents, one, two):
    # Along both paths at once, each step to the smaller: a parent precedes its children.
    while parents[one] != parents[two]:
        if parents[one] < parents[two]:
            one, two = two, one
        up = parents[one]
        parents[one] = parents[two]
        if up == one:
            break
        one = up


@kernel
def _rank(parents, count):
    # A parent precedes its children, so it has its rank when they read it.
    rank = 0
    for label in range(1, count + 1):
        if parents[label] == label:
            rank += 1
            parents[label] = rank
        else:
            parents[label] = parents[parents[label]]
    return rank


@kernel
def _finish(labels, ranks, first, sizes):
    depth, height, width = labels.shape
    seen = 0
    for z in range(depth):
        for y in range(height):
            row = labels[z, y]
            for x in range(width):
                rank = ranks[row[x]]
                row[x] = rank
                sizes[rank] += 1
                if rank > seen:
                    seen = rank
                    first[rank] = (z * height + y) * width + x
