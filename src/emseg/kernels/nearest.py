"""Exact distances of the voxels of one mask to another mask."""

from collections.abc import Sequence

import numpy as np

from emseg.kernels.compiled import kernel

# Columns that are processed together: one cache line.
_COLUMNS = 64
# Bits of a voxel: whether its distance is wanted, and its steps along the row to the nearest site,
# `_FAR` if the row has none. `_BEHIND` and `_BEFORE` are places of sites that do not exist.
_ASKED = 1 << 30
_FAR = _ASKED - 1
_BEHIND, _BEFORE = 2 * _FAR, -_FAR
# How many sections to either side a voxel checks by itself.
_NEAR = 12


def distances_outside(
    ours: np.ndarray, theirs: np.ndarray, voxel_size: Sequence[float]
) -> np.ndarray:
    """The distance of each voxel of `ours` outside `theirs` to its nearest in `theirs`: float64.

    The separable transform of Felzenszwalb and Huttenlocher (Theory of Computing 2012), a few
    columns at a time: along axis 2 for all voxels, along axis 1 for the sections that some voxel
    needs, along axis 0 for the voxels of `ours`: each as far as a nearer site can be, or a whole
    column together if that is far. Squares are summed in float64. Time depends on the volume's
    size, little on its content; memory beside the masks is that of a few columns and of the
    distances.

    Args:
        ours, theirs: bool (Z, Y, X); `theirs` is not empty.
        voxel_size: in any unit, in the order of the axes.

    Returns:
        (N,) distances between the centres of voxels, in that unit, in no defined order.
    """
    depth, height, width = ours.shape
    slabs = -(-width // _COLUMNS)
    first = np.full((slabs + 1, depth, height), _BEHIND, np.int32)
    _find_first(theirs, first)
    asked = sum(np.count_nonzero(one > other) for one, other in zip(ours, theirs, strict=True))
    found = np.empty(asked, np.float64)
    # Columns a power of two apart would compete for the same cache lines.
    steps = np.empty((min(width, _COLUMNS), depth * height + 16), np.int32)
    _measure(ours, theirs, first, steps, np.array(voxel_size, np.float64), found)
    return np.sqrt(found, out=found)


@kernel
def _find_first(sites, first):
    """Per slab and row the place of the first site from the slab's start on."""
    depth, height, width = sites.shape
    for slab in range(len(first) - 2, -1, -1):
        begin = slab * _COLUMNS
        end = min(begin + _COLUMNS, width)
        for z in range(depth):
            for y in range(height):
                first[slab, z, y] = first[slab + 1, z, y]
                for x in range(begin, end):
                    if sites[z, y, x]:
                        first[slab, z, y] = x
                        break


@kernel
def _measure(ours, theirs, first, steps, size, found):
    depth, height, width = ours.shape
    last = np.full((depth, height), _BEFORE, np.int32)
    known, final = np.empty(depth, np.bool_), np.empty(height, np.bool_)
    # In a plane across axis 2: the squared distances within sections, and of whole columns.
    squares, nearest = np.empty((depth, height)), np.empty((depth, height))
    longest = max(depth, height)
    work = np.empty(longest, np.int64), np.empty(longest), np.empty(longest)
    count = 0
    for slab in range(len(first) - 1):
        begin = slab * _COLUMNS
        end = min(begin + _COLUMNS, width)
        _step_along_rows(ours, theirs, begin, end, first[slab : slab + 2], last, steps)
        for x in range(end - begin):
            known[:], final[:] = False, False
            for z in range(depth):
                for y in range(height):
                    if steps[x, z * height + y] < _ASKED:
                        continue
                    best = np.inf
                    away = 0
                    while away < depth and (away * size[0]) ** 2 < best and not final[y]:
                        if away == _NEAR:
                            # Far voxels of a column share the work.
                            for there in range(depth):
                                _measure_section(there, known, steps[x], size, work, squares)
                            nearest[:, y] = squares[:, y]
                            lower_envelope(nearest[:, y], size[0], *work)
                            final[y] = True
                            break
                        for there in (z - away, z + away):
                            if there < 0 or there >= depth:
                                continue
                            _measure_section(there, known, steps[x], size, work, squares)
                            best = min(best, (away * size[0]) ** 2 + squares[there, y])
                        away += 1
                    found[count] = nearest[z, y] if final[y] else best
                    count += 1


@kernel
def _step_along_rows(ours, theirs, begin, end, first, last, steps):
    depth, height, _ = ours.shape
    # A row of its own: in `steps`, neighbouring columns are far apart in memory.
    line = np.empty(_COLUMNS, np.int32)
    for z in range(depth):
        for y in range(height):
            at = z * height + y
            before, after = last[z, y], first[1, z, y]
            if first[0, z, y] >= end:
                for x in range(begin, end):
                    line[x - begin] = min(x - before, after - x, _FAR)
            else:
                for x in range(begin, end):
                    if theirs[z, y, x]:
                        before = x
                    line[x - begin] = x - before
                last[z, y] = before
                for x in range(end - 1, begin - 1, -1):
                    if theirs[z, y, x]:
                        after = x
                    line[x - begin] = min(line[x - begin], after - x, _FAR)
            for x in range(begin, end):
                asked = ours[z, y, x] and not theirs[z, y, x]
                steps[x - begin, at] = line[x - begin] | (_ASKED if asked else 0)


@kernel
def _measure_section(z, known, steps, size, work, squares):
    """Sets the squared distances along a column of section z, from the steps along its rows."""
    if known[z]:
        return
    known[z] = True
    height = squares.shape[1]
    for y in range(height):
        away = steps[z * height + y] & _FAR
        squares[z, y] = np.inf if away == _FAR else (away * size[2]) ** 2
    lower_envelope(squares[z], size[1], *work)


@kernel
def lower_envelope(squares, size, vertex, value, start):
    """Sets each square of a line (N,) to the least of all plus their squared distances to it.

    `size` is the distance of neighbours; `vertex` (int64), `value` and `start` (float64) of N are
    work space. Infinite squares are no sites. (Felzenszwalb and Huttenlocher, Theory of Computing
    2012.)
    """
    count = 0
    for y in range(len(squares)):
        square = squares[y]
        if square == np.inf:
            continue
        begins = -np.inf
        while count > 0:
            top = vertex[count - 1]
            # Where the two parabolas meet, in voxels.
            begins = (y + top + (square - value[count - 1]) / (size * size * (y - top))) / 2
            if begins > start[count - 1]:
                break
            count -= 1
            begins = -np.inf
        vertex[count], value[count], start[count] = y, square, begins
        count += 1
    if count == 0:
        return
    at = 0
    for y in range(len(squares)):
        while at + 1 < count and start[at + 1] < y:
            at += 1
        squares[y] = value[at] + ((y - vertex[at]) * size) ** 2
