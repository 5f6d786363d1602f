"""Watershed fragments of affinities, as connected components; block by block.

A voxel is joined to its strongest neighbour, unless all its affinities are low, and to every
neighbour with a high affinity. This depends only on the affinities around a voxel, so blocks find
the same edges as the whole volume does.
"""

import numpy as np

from emseg.kernels.compiled import kernel

# Bits of a voxel's flags. 1, 2, 4: joined to the voxel before it along axis 0, 1, 2. 8, 16, 32:
# joined to the voxel after it, which gets the bit three places lower. 64: not background.
_FOREGROUND = 64


@kernel
def flood(
    edges0,
    edges1,
    edges2,
    at,
    missing,
    extent,
    lead,
    low,
    high,
    top,
    labels,
    joined0,
    joined1,
    joined2,
):
    """Fragments of one block: (count, first voxels, sizes, whether all values are legal).

    The region has the shape `extent`: the block, `lead[a]` planes before it and 0 or 1 after it. Of
    equal affinities that are not high, the first in the order -0, -1, -2, +0, +1, +2 (axis, before
    or after) is the strongest.

    Args:
        edges0, edges1, edges2: per axis, C-contiguous, the affinity of the region's voxel v with
            the one before it, at v + `at[a]`: numbers in the order of the affinities.
        at: (3, 3), see `edges0`.
        missing: per axis; 1 if the region's first plane has no voxel before it: its values are not
            read.
        extent: voxels of the region.
        lead: per axis, 0 or 1.
        low: the largest value that joins nothing.
        high: the smallest value that always joins.
        top: the largest legal value; the smallest is 0.
        labels: uint32 (Z, Y, X) of the block alone; becomes 1, 2, … by the first voxel of each
            fragment in C order, 0 for background.
        joined0, joined1, joined2: uint8 planes of the block's first face along each axis; become 1
            where a voxel is joined to the one before it, outside the block. Such pairs join nothing
            here.

    Returns:
        The number of fragments; per label and 0 its first voxel (an index of the block in C order)
        and its voxels, int64; and whether all values are legal.
    """
    depth, height, width = labels.shape
    flags = np.zeros((2, extent[1], extent[2]), np.uint8)
    none = np.full(extent[2], low, edges0.dtype)
    along = np.full(extent[2] + 1, low, edges2.dtype)
    parents = np.empty(1 << 16, np.uint32)
    parents[0] = 0
    count, legal = 0, True
    for z in range(lead[0] + depth):
        here, behind = flags[z & 1], flags[(z - 1) & 1]
        for y in range(extent[1]):
            row2 = edges2[z + at[2, 0], y + at[2, 1]]
            for x in range(missing[2], extent[2]):
                along[x] = row2[x + at[2, 2]]
            legal &= _flag_row(
                _row(edges0, at[0], z, y, extent, none) if z >= missing[0] else none,
                _row(edges1, at[1], z, y, extent, none) if y >= missing[1] else none,
                _row(edges0, at[0], z + 1, y, extent, none) if z + 1 < extent[0] else none,
                _row(edges1, at[1], z, y + 1, extent, none) if y + 1 < extent[1] else none,
                along,
                low,
                high,
                top,
                here[y],
            )
        _take_choices(here, behind, z > 0)
        if z < lead[0]:
            continue
        # The voxels after the block are no longer needed: only their choices were.
        begin, end = lead[2], lead[2] + width
        inside = here[lead[1] : lead[1] + height, begin:end]
        _note_faces(inside, lead, z == lead[0] and lead[0], z - lead[0], joined0, joined1, joined2)
        for y in range(height):
            if len(parents) <= count + width:
                larger = np.empty(2 * len(parents), np.uint32)
                larger[: count + 1] = parents[: count + 1]
                parents = larger
            count = _label_row(
                here[lead[1] + y, begin:end],
                here[lead[1] + max(y - 1, 0), begin:end],
                behind[lead[1] + y, begin:end],
                labels[z - lead[0], y],
                labels[z - lead[0], max(y - 1, 0)],
                labels[max(z - lead[0] - 1, 0), y],
                parents,
                count,
            )
    count = _rank(parents, count)
    first, sizes = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    _finish(labels, parents, first, sizes)
    return count, first, sizes, legal


@kernel
def _row(edges, at, z, y, extent, none):
    return edges[z + at[0], y + at[1], at[2] : at[2] + len(none)]


@kernel
def _flag_row(before0, before1, after0, after1, along, low, high, top, flags):
    # No branches, one type: the compiler can use vector instructions.
    illegal = np.int32(0)
    for x in range(len(flags)):
        a, b, c = before0[x], before1[x], along[x]
        d, e, f = after0[x], after1[x], along[x + 1]
        strongest = a if a > b else b
        strongest = c if c > strongest else strongest
        strongest = d if d > strongest else strongest
        strongest = e if e > strongest else strongest
        strongest = f if f > strongest else strongest
        equal = (
            np.int32(a == strongest)
            | np.int32(b == strongest) << 1
            | np.int32(c == strongest) << 2
            | np.int32(d == strongest) << 3
            | np.int32(e == strongest) << 4
            | np.int32(f == strongest) << 5
        )
        chosen = equal & -equal
        sure = np.int32(a >= high) | np.int32(b >= high) << 1 | np.int32(c >= high) << 2
        flags[x] = (chosen | sure | np.int32(_FOREGROUND)) * np.int32(strongest > low)
        # Written so that NaN is illegal.
        fine = np.int32(a >= 0) & np.int32(b >= 0) & np.int32(c >= 0)
        fine &= np.int32(a <= top) & np.int32(b <= top) & np.int32(c <= top)
        illegal |= 1 - fine
    return illegal == 0


@kernel
def _take_choices(here, behind, has_behind):
    rows, columns = here.shape
    for y in range(rows):
        row = here[y]
        if has_behind:
            before = behind[y]
            for x in range(columns):
                row[x] |= (before[x] >> 3) & 1
        if y > 0:
            before = here[y - 1]
            for x in range(columns):
                row[x] |= (before[x] >> 3) & 2
        for x in range(1, columns):
            row[x] |= (row[x - 1] >> 3) & 4


@kernel
def _note_faces(inside, lead, at_face, plane, joined0, joined1, joined2):
    # Pairs that lead out of the block are recorded, and join nothing in it.
    rows, columns = inside.shape
    if at_face:
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
def _label_row(flags, flags_up, flags_below, own, up, below, parents, count):
    label = np.uint32(0)
    before = np.uint8(0)
    for x in range(len(flags)):
        bits = flags[x] & 7
        if bits == 0:
            label = np.uint32(0)
            if flags[x]:
                count += 1
                parents[count] = count
                label = np.uint32(count)
        elif bits & 4:
            # An edge that closes a square of four joins nothing new.
            if bits & 2 and not (before & 2 and flags_up[x] & 4):
                label = _unite(parents, label, up[x])
            if bits & 1 and not (before & 1 and flags_below[x] & 4):
                label = _unite(parents, label, below[x])
        elif bits & 2:
            label = up[x]
            if bits & 1:
                label = _unite(parents, label, below[x])
        else:
            label = below[x]
        own[x] = label
        before = bits
    return count


@kernel
def _unite(parents, one, two):
    # The smaller root remains: it was found first.
    if one == two:
        return one
    while parents[one] != one:
        parents[one] = parents[parents[one]]
        one = parents[one]
    while parents[two] != two:
        parents[two] = parents[parents[two]]
        two = parents[two]
    if one < two:
        parents[two] = one
        return one
    parents[one] = two
    return two


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
