"""Connected components of a voxel graph, and dense numbers for labels."""

import numpy as np
from numba import njit

# Bits of a flag voxel: its own edge along axis 0, 1, 2 is on.
EDGE_BITS = (1, 2, 4)


def edge_components(flags: np.ndarray, *, forward: tuple[bool, bool, bool]) -> np.ndarray:
    """Labels (Z, Y, X) of the components that the edges form; 0 where no edge is.

    `flags` uint8 (Z, Y, X): bit a of a voxel says that the edge which it stores along axis a is
    on. That edge leads to the next voxel along the axis where `forward[a]`, else to the one before
    it. A voxel with a bit set is foreground, even when that edge leads out of the volume, and so
    is the other end of an edge inside. The labels are 1 + the rank of a component by its first
    voxel in C order: uint32, or uint64 for 2^32 voxels and more.

    Union-find with the first voxel as root: it sees each voxel once, whatever the components'
    shape, and keeps its parents in the array of labels.
    """
    labels = np.zeros(flags.shape, np.uint32 if flags.size < 2**32 else np.uint64)
    _unite(np.ascontiguousarray(flags), np.array(forward, dtype=np.bool_), labels.reshape(-1))
    _rank(labels.reshape(-1))
    return labels


def renumber(labels: np.ndarray, *, min_size: int = 0) -> np.ndarray:
    """The labels numbered 1, 2, … by their first voxel in C order; 0 stays 0; a new array.

    `labels` uint64 of any shape, with ids of about the count of voxels at most (a table is as long
    as the largest id). Ids with fewer than `min_size` voxels become 0. Returns uint32, or uint64
    for 2^32 voxels and more.
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    numbers = np.zeros(int(flat.max(initial=0)) + 1, np.int64)
    if min_size > 1:
        _drop_small(flat, numbers, min_size)
    dense = np.empty(labels.shape, np.uint32 if labels.size < 2**32 else np.uint64)
    _number(flat, numbers, dense.reshape(-1))
    return dense


@njit(cache=True, nogil=True)
def _root(parents, voxel):
    # A parent is stored as its index + 1, so that 0 says background.
    while parents[voxel] != voxel + 1:
        up = np.int64(parents[voxel]) - 1
        parents[voxel] = parents[up]
        voxel = np.int64(parents[voxel]) - 1
    return voxel


@njit(cache=True, nogil=True)
def _join(parents, before, here):
    # `before` precedes `here` in C order; either may have been background until now.
    if parents[before] == 0:
        parents[before] = before + 1
    if parents[here] == 0:
        parents[here] = parents[before]
        return
    if parents[here] == parents[before]:
        return
    one, two = _root(parents, before), _root(parents, here)
    if one < two:
        parents[two] = one + 1
    elif two < one:
        parents[one] = two + 1


@njit(cache=True, nogil=True)
def _unite(flags, forward, parents):
    depth, height, width = flags.shape
    # An edge stored forward is found one voxel back, where it begins.
    back = forward.astype(np.int64)
    for z in range(depth):
        for y in range(height):
            row = (z * height + y) * width
            own = flags[z, y]
            behind_z = flags[max(z - 1, 0), y]
            behind_y = flags[z, max(y - 1, 0)]
            along_z = behind_z if back[0] else own
            along_y = behind_y if back[1] else own
            before_z = before_y = False
            for x in range(width):
                here = row + x
                # The edge of the voxel before is at x - 1 + (0 or 1): never below 0 where x > 0.
                edge = x - back[2]
                on_x = x > 0 and own[edge] & 4 != 0
                on_y = y > 0 and along_y[x] & 2 != 0
                on_z = z > 0 and along_z[x] & 1 != 0
                if on_x:
                    _join(parents, here - 1, here)
                # An edge that closes a square of four edges joins nothing new.
                if on_y and not (on_x and before_y and behind_y[edge] & 4):
                    _join(parents, here - width, here)
                if on_z and not (on_x and before_z and behind_z[edge] & 4):
                    _join(parents, here - height * width, here)
                if own[x] and parents[here] == 0:
                    parents[here] = here + 1
                before_y, before_z = on_y, on_z


@njit(cache=True, nogil=True)
def _rank(parents):
    # A parent always precedes its children, so it holds its final label when they ask for it.
    rank = 0
    for voxel in range(len(parents)):
        parent = np.int64(parents[voxel])
        if parent == voxel + 1:
            rank += 1
            parents[voxel] = rank
        elif parent:
            parents[voxel] = parents[parent - 1]


@njit(cache=True, nogil=True)
def _drop_small(labels, numbers, min_size):
    for label in labels:
        numbers[label] += 1
    for label in range(len(numbers)):
        numbers[label] = -1 if numbers[label] < min_size else 0


@njit(cache=True, nogil=True)
def _number(labels, numbers, dense):
    # In `numbers`: 0 not met yet, -1 dropped, else the new number.
    count = 0
    for voxel in range(len(labels)):
        label = labels[voxel]
        if label == 0:
            dense[voxel] = 0
            continue
        if numbers[label] == 0:
            count += 1
            numbers[label] = count
        dense[voxel] = max(numbers[label], 0)
