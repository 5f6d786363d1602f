"""Components of a voxel graph whose edges are added from the strongest to the weakest."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.numbering import root_of, unite

# Voxels that are looked at together.
SLAB = 1 << 18


def edges_by_level(
    values: Sequence[np.ndarray],
    limits: np.ndarray,
    parents: np.ndarray,
    *,
    forward: tuple[bool, bool, bool],
    mask: np.ndarray,
    threads: int = 1,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """(slabs, pieces): of each slab (edges, bounds), the edges (E, 2) between different pieces.

    Left out are edges above the last limit and those not above the first. One pass over the values,
    slab by slab in threads, each with a counting sort.

    Args:
        values: per axis (Z, Y, X) of one integer type.
        limits: (T,) ascending of that type, 0 or more.
        parents: (Z, Y, X), of `joined_voxels`; becomes the piece of each voxel, from 0.
        forward: as of `edge_components`.
        mask: bool (Z, Y, X), edges with an end where it is false are left out; of another
            shape: all count.

    Returns:
        From `bounds[t]` to `bounds[t + 1]` are the edges above `limits[t]` that are not above the
        next limit. The number of pieces: components, and voxels in none.
    """
    table, shift = _coarse_levels(limits)

    def gather(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        most = 3 * parents[first:last].size
        edges, groups = np.empty((most, 2), parents.dtype), np.empty(most, np.uint32)
        count = _gather_planes(
            tuple(values), forward, first, last, limits, table, shift, parents, mask, edges, groups
        )
        groups = groups[:count]
        sizes = np.bincount(groups, minlength=len(limits))
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        return _sorted_edges(edges, groups, bounds[:-1].copy()), bounds

    depth, plane, flat = len(parents), parents[0].size, parents.reshape(-1)
    pieces, step, found = 0, max(1, SLAB // plane), []
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, depth, step):
            last = min(first + step, depth)
            pieces = _number_pieces(flat, first * plane, last * plane, pieces)
            found.append(pool.submit(gather, first, last))
    return [slab.result() for slab in found], pieces


def _coarse_levels(limits: np.ndarray) -> tuple[np.ndarray, int]:
    """(table, shift): at least `table[value >> shift]` limits are below a value."""
    # float32 has too many values for a table of all of them; float16 and uint8 need no shift.
    shift = 14 if limits.dtype == np.int32 else 0
    largest = {1: 0xFF, 2: 0x3C00, 4: 0x3F800000}[limits.itemsize]
    steps = np.arange((largest >> shift) + 1, dtype=np.int64) << shift
    return np.searchsorted(limits, steps, side="left").astype(np.int32), shift


@kernel
def _number_pieces(parents, first, last, count):
    # Numbers those of the voxels `first` to `last`; `count` are numbered already. A parent precedes
    # its children, so it has its number. No branch: nobody could predict it.
    for voxel in range(first, last):
        parent = np.int64(parents[voxel])
        root = np.int64(parent == 0) | np.int64(parent == voxel + 1)
        parents[np.uint64(voxel)] = count
        parents[np.uint64(voxel)] = parents[np.uint64(root * voxel + (1 - root) * (parent - 1))]
        count += root
    return count


@kernel
def strongest_edges(values, forward, voxels, mask):
    """Per voxel (N,) the highest value that makes it foreground, -1 where the mask is false.

    Args:
        values, forward, mask: as of `edges_by_level`, the values a tuple, the mask an array.
        voxels: int64 (N, 3).
    """
    strongest = np.full(len(voxels), -1, np.int64)
    depth, height, width = values[0].shape
    masked = mask.size == values[0].size
    for at in range(len(voxels)):
        z, y, x = voxels[at]
        if masked and not mask[z, y, x]:
            continue
        for axis in range(3):
            for step in (-1, 1):
                to_z, to_y = z + step * (axis == 0), y + step * (axis == 1)
                to_x = x + step * (axis == 2)
                inside = 0 <= to_z < depth and 0 <= to_y < height and 0 <= to_x < width
                if masked and inside and not mask[to_z, to_y, to_x]:
                    continue
                # A voxel's own value counts even where its edge leads out of the volume.
                if forward[axis] == (step > 0):
                    strongest[at] = max(strongest[at], values[axis][z, y, x])
                elif inside:
                    strongest[at] = max(strongest[at], values[axis][to_z, to_y, to_x])
    return strongest


@kernel
def _level(value, limits, table, shift):
    # The number of limits below the value.
    level = table[value >> shift]
    while level < len(limits) and limits[level] < value:
        level += 1
    return level


@kernel
def _gather_planes(values, forward, first, last, limits, table, shift, pieces, mask, edges, groups):
    _, height, width = pieces.shape
    low, high = limits[0], limits[-1]
    masked = mask.size == pieces.size
    words = np.zeros((width + 7) // 8, np.uint64)
    marks, places = words.view(np.uint8), np.empty(8 * len(words), np.int64)
    some = np.empty(len(words), np.int64)
    count = 0
    for z in range(first, last):
        for y in range(height):
            for axis in range(3):
                dz, dy, dx = np.int64(axis == 0), np.int64(axis == 1), np.int64(axis == 2)
                if z < dz or y < dy:
                    continue
                # An edge stored forward is found one voxel back, where it begins.
                ahead = forward[axis]
                line = values[axis][z - dz if ahead else z, y - dy if ahead else y]
                line = line[: width - dx] if ahead else line[dx:]
                here, there = pieces[z, y, dx:], pieces[z - dz, y - dy, : width - dx]
                for x in range(len(line)):
                    marks[x] = (line[x] > low) & (line[x] <= high) & (here[x] != there[x])
                if masked:
                    for x in range(len(line)):
                        marks[x] &= mask[z, y, x + dx] & mask[z - dz, y - dy, x]
                marks[len(line) :] = 0
                # First the words, then their bytes: no branch, as nobody could predict it.
                known = found = 0
                for word in range(len(words)):
                    some[known] = word
                    known += words[word] != 0
                for word in some[:known]:
                    for x in range(8 * word, 8 * word + 8):
                        places[found] = x
                        found += marks[x]
                for x in places[:found]:
                    edges[count, 0], edges[count, 1] = there[x], here[x]
                    groups[count] = _level(line[x], limits, table, shift) - 1
                    count += 1
    return count


@kernel
def _sorted_edges(found, groups, ends):
    edges = np.empty((len(groups), 2), found.dtype)
    for at in range(len(groups)):
        to = ends[groups[at]]
        edges[to, 0], edges[to, 1] = found[at, 0], found[at, 1]
        ends[groups[at]] += 1
    return edges


@kernel
def join_edges(roots, edges):
    """Joins the two pieces of each edge (E, 2) in a union-find; the entry of a root is itself."""
    for at in range(len(edges)):
        unite(roots, edges[at, 0], edges[at, 1])


@kernel
def roots_of(roots, pieces):
    """The root of each of the pieces (N,): int64."""
    found = np.empty(len(pieces), np.int64)
    for at in range(len(pieces)):
        found[at] = root_of(roots, pieces[at])
    return found
