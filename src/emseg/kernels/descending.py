"""Components of a voxel graph whose edges are added from the strongest to the weakest."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.numbering import root_of, unite


def edges_by_level(
    values: list[np.ndarray],
    limits: np.ndarray,
    pieces: np.ndarray,
    *,
    forward: tuple[bool, bool, bool],
    mask: np.ndarray | None,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """(edges, bounds): the edges (E, 2) between different pieces, grouped by their value.

    Left out are edges above the last limit and those not above the first. One pass over the values,
    plane by plane in threads, then a counting sort.

    Args:
        values: per axis (Z, Y, X) of one integer type.
        limits: (T,) ascending of that type, 0 or more.
        pieces: (Z, Y, X), of `number_pieces`.
        forward: as of `edge_components`.
        mask: bool (Z, Y, X), edges with an end where it is false are left out; None: all count.

    Returns:
        The edges: group t, from `bounds[t]` to `bounds[t + 1]`, has those above `limits[t]` that
        are not above the next limit. Of successive edges between the same two pieces only the
        strongest is listed.
    """
    table, shift = _coarse_levels(limits)
    trusted = np.ones((1, 1, 1), np.bool_) if mask is None else mask

    def gather(z: int) -> tuple[np.ndarray, np.ndarray]:
        most = 3 * pieces[0].size
        edges, groups = np.empty((most, 2), pieces.dtype), np.empty(most, np.uint32)
        count = _gather_plane(
            tuple(values), forward, z, limits, table, shift, pieces, trusted, edges, groups
        )
        return edges[:count].copy(), groups[:count].copy()

    with ThreadPoolExecutor(threads) as pool:
        planes = list(pool.map(gather, range(len(pieces))))[::-1]
    counts = np.zeros(len(limits), np.int64)
    for _, groups in planes:
        counts += np.bincount(groups, minlength=len(limits))
    bounds = np.concatenate([[0], np.cumsum(counts)])
    ends, edges = bounds[:-1].copy(), np.empty((bounds[-1], 2), pieces.dtype)
    while planes:
        _sort_edges(*planes.pop(), edges, ends)
    return edges, bounds


def _coarse_levels(limits: np.ndarray) -> tuple[np.ndarray, int]:
    """(table, shift): at least `table[value >> shift]` limits are below a value."""
    # float32 has too many values for a table of all of them; float16 and uint8 need no shift.
    shift = 14 if limits.dtype == np.int32 else 0
    largest = {1: 0xFF, 2: 0x3C00, 4: 0x3F800000}[limits.itemsize]
    steps = np.arange((largest >> shift) + 1, dtype=np.int64) << shift
    return np.searchsorted(limits, steps, side="left").astype(np.int32), shift


@kernel
def number_pieces(parents):
    """The number of pieces: components, and voxels that are in none.

    Args:
        parents: flat, of `joined_voxels`; becomes the piece of each voxel, from 0.
    """
    count = 0
    for voxel in range(len(parents)):
        parent = np.int64(parents[voxel])
        if parent == 0 or parent == voxel + 1:
            parents[voxel] = count
            count += 1
        else:
            # A parent precedes its children, so it has its number already.
            parents[voxel] = parents[parent - 1]
    return count


@kernel
def _level(value, limits, table, shift):
    # The number of limits below the value.
    level = table[value >> shift]
    while level < len(limits) and limits[level] < value:
        level += 1
    return level


@kernel
def _gather_plane(values, forward, z, limits, table, shift, pieces, mask, edges, groups):
    _, height, width = pieces.shape
    low, high = limits[0], limits[-1]
    masked = mask.size == pieces.size
    words = np.zeros((width + 7) // 8, np.uint64)
    marks = words.view(np.uint8)
    count = 0
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
            marks[len(line) :] = 0
            for word in range(len(words)):
                if words[word] == 0:
                    continue
                for x in range(8 * word, min(8 * word + 8, len(line))):
                    if not marks[x]:
                        continue
                    if masked and not (mask[z, y, x + dx] and mask[z - dz, y - dy, x]):
                        continue
                    group = _level(line[x], limits, table, shift) - 1
                    last = max(count - 1, 0)
                    if count and edges[last, 0] == there[x] and edges[last, 1] == here[x]:
                        groups[last] = max(groups[last], group)
                        continue
                    edges[count, 0], edges[count, 1] = there[x], here[x]
                    groups[count] = group
                    count += 1
    return count


@kernel
def _sort_edges(found, groups, edges, ends):
    for at in range(len(found)):
        to = ends[groups[at]]
        edges[to, 0], edges[to, 1] = found[at, 0], found[at, 1]
        ends[groups[at]] += 1


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
