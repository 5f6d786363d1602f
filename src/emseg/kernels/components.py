"""Connected components of a voxel graph, and dense numbers for labels."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from emseg.kernels.compiled import kernel

# Bits of a flag voxel: its own edge along axis 0, 1, 2 is on.
EDGE_BITS = (1, 2, 4)


def flags_above(values: Sequence[np.ndarray], limit: np.generic, *, threads: int = 1) -> np.ndarray:
    """Flags uint8 (Z, Y, X): bit a where `values[a]` (Z, Y, X), of one dtype, exceed the limit."""
    flags = np.empty(values[0].shape, np.uint8)
    first, second, third = values
    bounds = [len(flags) * slab // threads for slab in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        slabs = [
            pool.submit(_set_flags, first[a:b], second[a:b], third[a:b], limit, flags[a:b])
            for a, b in pairwise(bounds)
        ]
        for slab in slabs:
            slab.result()
    return flags


def edge_components(
    flags: np.ndarray, *, forward: tuple[bool, bool, bool], threads: int = 1
) -> np.ndarray:
    """Labels (Z, Y, X) of the components that the edges form; 0 where there is no edge.

    A voxel with a bit set is foreground, even when that edge leads out of the volume, and so is the
    other end of an edge inside.

    Args:
        flags: uint8 (Z, Y, X): bit a says that the edge which a voxel stores along axis a is on.
        forward: per axis, whether an edge leads to the next voxel along it, else to the one before.

    Returns:
        1 + the rank of a component by its first voxel in C order: uint32, or uint64 for 2^32
        voxels and more.
    """
    parents = joined_voxels(flags, forward=forward, threads=threads)
    _rank(parents.reshape(-1))
    return parents


def joined_voxels(
    flags: np.ndarray, *, forward: tuple[bool, bool, bool], threads: int = 1
) -> np.ndarray:
    """Parents (Z, Y, X) of a union-find over the edges; arguments, dtype as in `edge_components`.

    Rows are joined as runs, and edges that close a square of four are skipped. Each thread works on
    a slab; slabs are then joined.

    Returns:
        A voxel's place in C order + 1, never after the voxel's own; a root is its own parent, and
        its component's first voxel; 0 is background.
    """
    flags = np.ascontiguousarray(flags)
    parents = np.zeros(flags.shape, np.uint32 if flags.size < 2**32 else np.uint64)
    flat, depth = parents.reshape(-1), len(flags)
    threads = max(min(threads, depth), 1)
    bounds = [depth * slab // threads for slab in range(threads + 1)]
    if threads == 1:
        _unite(flags, forward, flat, 0, depth)
        return parents
    with ThreadPoolExecutor(threads) as pool:
        slabs = [
            pool.submit(_unite, flags, forward, flat, first, last)
            for first, last in pairwise(bounds)
        ]
        for slab in slabs:
            slab.result()
    for plane in bounds[1:-1]:
        _unite_seam(flags[plane - int(forward[0])], flat, plane)
    return parents


def renumber(labels: np.ndarray, *, min_size: int = 0) -> np.ndarray:
    """The labels numbered 1, 2, … by their first voxel in C order; 0 stays 0; a new array.

    Args:
        labels: uint64 of any shape, with ids not much larger than the number of voxels (the
            largest id is the length of a table).
        min_size: ids with fewer voxels become 0.

    Returns:
        uint32, or uint64 for 2^32 voxels and more.
    """
    flat = np.ascontiguousarray(labels).reshape(-1)
    numbers = np.zeros(int(flat.max(initial=0)) + 1, np.int64)
    if min_size > 1:
        _drop_small(flat, numbers, min_size)
    dense = np.empty(labels.shape, np.uint32 if labels.size < 2**32 else np.uint64)
    _number(flat, numbers, dense.reshape(-1))
    return dense


@kernel
def _set_flags(first, second, third, limit, flags):
    depth, height, width = flags.shape
    for z in range(depth):
        for y in range(height):
            one, two, three, row = first[z, y], second[z, y], third[z, y], flags[z, y]
            for x in range(width):
                row[x] = (
                    np.uint8(one[x] > limit)
                    | (np.uint8(two[x] > limit) << 1)
                    | (np.uint8(three[x] > limit) << 2)
                )


@kernel
def _root(parents, voxel):
    # A parent is stored as its index + 1, so that 0 means background.
    while parents[voxel] != voxel + 1:
        up = np.int64(parents[voxel]) - 1
        parents[voxel] = parents[up]
        voxel = np.int64(parents[voxel]) - 1
    return voxel


@kernel
def _join(parents, before, here):
    # `before` precedes `here` in C order; either may have been background until now.
    if parents[before] == 0:
        parents[before] = before + 1
    if parents[here] == 0:
        parents[here] = here + 1
    if parents[here] == parents[before]:
        return
    one, two = _root(parents, before), _root(parents, here)
    if one < two:
        parents[two] = one + 1
    elif two < one:
        parents[one] = two + 1


@kernel
def _unite(flags, forward, parents, first, last):
    _, height, width = flags.shape
    none = np.zeros(width, np.uint8)
    # Bits 0 and 1, per voxel of a row. `needs`: must be joined to the voxel before it along y, z;
    # `runs`: is joined to the one before it along x, is foreground.
    words = np.zeros((width + 7) // 8, np.uint64)
    needs = words.view(np.uint8)
    runs = np.zeros(width, np.uint8)
    # An edge stored forward is found one voxel back, where it begins.
    back_z, back_y, back_x = forward
    for z in range(first, last):
        for y in range(height):
            row = (z * height + y) * width
            own = flags[z, y]
            before_z = flags[z - 1, y] if z > first else none
            before_y = flags[z, y - 1] if y > 0 else none
            on_z = (before_z if back_z else own) if z > first else none
            on_y = (before_y if back_y else own) if y > 0 else none
            _look_at_row(own, on_y, on_z, before_y, before_z, back_x, runs, needs)
            line = parents[row : row + width]
            start = row
            for x in range(width):
                start = start if runs[x] & 1 else row + x
                line[x] = start + 1 if runs[x] else 0
            # Within an object nearly all squares are closed: check eight voxels at once.
            for word in range(len(words)):
                if words[word] == 0:
                    continue
                for x in range(8 * word, min(8 * word + 8, width)):
                    if needs[x] & 1:
                        _join(parents, row + x - width, row + x)
                    if needs[x] & 2:
                        _join(parents, row + x - height * width, row + x)


@kernel
def _look_at_row(own, on_y, on_z, before_y, before_z, back_x, runs, needs):
    needs[0] = ((on_y[0] >> 1) & 1) | ((on_z[0] & 1) << 1)
    runs[0] = 2 if own[0] | needs[0] else 0
    # For voxel i + 1; slices, counted from 0, let the compiler use vector instructions.
    here, y, z, need, run = own[1:], on_y[1:], on_z[1:], needs[1:], runs[1:]
    along_x = own if back_x else own[1:]
    beside_y = before_y if back_x else before_y[1:]
    beside_z = before_z if back_x else before_z[1:]
    for i in range(len(here)):
        x = (along_x[i] >> 2) & 1
        # An edge that closes a square of four edges joins nothing new.
        closes_y = x & (on_y[i] >> 1) & (beside_y[i] >> 2)
        closes_z = x & on_z[i] & (beside_z[i] >> 2)
        alone_y, alone_z = (y[i] >> 1) & 1, z[i] & 1
        need[i] = (alone_y & ~closes_y) | ((alone_z & ~closes_z) << 1)
        run[i] = x | (2 if here[i] | alone_y | alone_z | x else 0)
    if not back_x:
        for i in range(len(here)):
            runs[i] |= (along_x[i] >> 1) & 2


@kernel
def _unite_seam(edges, parents, plane):
    height, width = edges.shape
    for y in range(height):
        row = (plane * height + y) * width
        for x in range(width):
            if edges[y, x] & 1:
                _join(parents, row + x - height * width, row + x)


@kernel
def _rank(parents):
    # A parent always precedes its children, so it has its final label when they read it.
    rank = 0
    for voxel in range(len(parents)):
        parent = np.int64(parents[voxel])
        if parent == voxel + 1:
            rank += 1
            parents[voxel] = rank
        elif parent:
            parents[voxel] = parents[parent - 1]


@kernel
def _drop_small(labels, numbers, min_size):
    for label in labels:
        numbers[label] += 1
    for label in range(len(numbers)):
        numbers[label] = -1 if numbers[label] < min_size else 0


@kernel
def _number(labels, numbers, dense):
    # In `numbers`: 0 not seen yet, -1 dropped, else the new number.
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
