"""Labels of one piece each, and the skeletons inside them."""

from dataclasses import dataclass

import cc3d
import edt
import networkx as nx
import numpy as np
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from emseg.data.synthetic_neurites import Neurites


@dataclass(frozen=True)
class Pieces:
    """Labels of one piece each, beside the trees they were cut from."""

    labels: np.ndarray  # uint32: final ids
    trees: np.ndarray  # uint32: tree numbers as drawn, 0 where a sliver was given away
    ids: np.ndarray  # every id in use, ascending


def one_piece_each(trees: np.ndarray, *, sliver_voxels: int) -> Pieces:
    """Labels in which every id is one 6-connected piece; `trees` is kept, and changed in place.

    The largest piece of a tree keeps the tree's number. Another piece of at least `sliver_voxels`
    voxels gets a new number; a smaller one goes to the neighbour (a piece that is not a sliver)
    with most faces to it, or to the background where there is none.
    """
    pieces, count = cc3d.connected_components(
        trees, connectivity=6, out_dtype=np.uint32, return_N=True
    )
    size, owner = _census(trees, pieces, count)
    order = np.argsort(-size, kind="stable")
    _, first = np.unique(owner[order], return_index=True)
    largest = np.zeros(count + 1, bool)
    largest[order[first]] = True
    sliver = ~largest & (size < sliver_voxels)
    sliver[0] = False
    names = np.where(largest, owner, 0).astype(np.uint32)
    fresh = np.flatnonzero(~largest & ~sliver)
    fresh = fresh[fresh > 0]
    names[fresh] = owner.max() + 1 + np.arange(fresh.size)
    voxels = _voxels_of(pieces, sliver, int(size[sliver].sum()))
    trees[tuple(voxels.T)] = 0
    for piece, neighbour in _neighbour_of(voxels, pieces, sliver).items():
        names[piece] = names[neighbour]
    names[0] = 0
    _rename(pieces, names)
    return Pieces(pieces, trees, np.unique(names[names > 0]))


@njit(cache=True, nogil=True)
def _census(trees, pieces, count):
    size = np.zeros(count + 1, np.int64)
    owner = np.zeros(count + 1, np.int64)
    for z in range(trees.shape[0]):
        for y in range(trees.shape[1]):
            for x in range(trees.shape[2]):
                piece = pieces[z, y, x]
                size[piece] += 1
                owner[piece] = trees[z, y, x]
    return size, owner


@njit(cache=True, nogil=True)
def _voxels_of(pieces, chosen, count):
    voxels = np.empty((count, 3), np.int64)
    if count == 0:
        return voxels
    found = 0
    for z in range(pieces.shape[0]):
        for y in range(pieces.shape[1]):
            for x in range(pieces.shape[2]):
                if chosen[pieces[z, y, x]]:
                    voxels[found, 0] = z
                    voxels[found, 1] = y
                    voxels[found, 2] = x
                    found += 1
    return voxels


@njit(cache=True, nogil=True)
def _rename(pieces, names):
    for z in range(pieces.shape[0]):
        for y in range(pieces.shape[1]):
            for x in range(pieces.shape[2]):
                pieces[z, y, x] = names[pieces[z, y, x]]


def _neighbour_of(voxels: np.ndarray, pieces: np.ndarray, sliver: np.ndarray) -> dict[int, int]:
    """For each sliver the larger piece with most faces to its `voxels`."""
    touching = []
    for axis in range(3):
        for side in (-1, 1):
            beside = voxels.copy()
            beside[:, axis] += side
            inside = (beside[:, axis] >= 0) & (beside[:, axis] < pieces.shape[axis])
            pair = np.stack([pieces[tuple(voxels[inside].T)], pieces[tuple(beside[inside].T)]], 1)
            touching.append(pair[(pair[:, 1] > 0) & ~sliver[pair[:, 1]]])
    pairs, faces = np.unique(np.concatenate(touching), axis=0, return_counts=True)
    best: dict[int, int] = {}
    for row in np.argsort(faces, kind="stable"):
        best[int(pairs[row, 0])] = int(pairs[row, 1])
    return best


def make_skeletons(
    pieces: Pieces,
    neurites: Neurites,
    places: np.ndarray,
    *,
    voxel_size: np.ndarray,
    shift: np.ndarray,
) -> nx.Graph:
    """One component per id, nodes inside their label; `places` are the balls' tissue nm.

    Of a skeleton that leaves its label in between, the part with most nodes stays. An id without
    any ball centre inside it gets one node, at the voxel farthest from its surface.
    """
    shape = np.array(pieces.labels.shape)
    index = np.rint(places / voxel_size).astype(np.int64)
    section = np.clip(index[:, 0], 0, shape[0] - 1)
    index[:, 1:] -= shift[section]
    position = places.copy()
    position[:, 1:] -= shift[section] * voxel_size[1:]
    rows = np.flatnonzero(((index >= 0) & (index < shape)).all(axis=1))
    at = tuple(index[rows].T)
    rows = rows[pieces.trees[at] == neurites.tree[rows]]
    name = pieces.labels[tuple(index[rows].T)]
    rows, name, child, parent = _largest_parts(rows, name, neurites.parent)
    graph = nx.Graph()
    index_list, position_list = index[rows].tolist(), position[rows].tolist()
    for node, (label, i, p) in enumerate(
        zip(name.tolist(), index_list, position_list, strict=True)
    ):
        graph.add_node(node, id=label, index_position=tuple(i), nm_position=tuple(p))
    graph.add_edges_from(zip(child.tolist(), parent.tolist(), strict=True))
    bare = np.setdiff1d(pieces.ids, name)
    for label, voxel in _inmost_voxels(pieces.labels, bare, voxel_size):
        where = tuple(float(v * s) for v, s in zip(voxel, voxel_size, strict=True))
        graph.add_node(len(graph), id=label, index_position=voxel, nm_position=where)
    return graph


def _largest_parts(
    rows: np.ndarray, name: np.ndarray, parent: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows and names of each id's largest connected part, and its edges as positions in them."""
    place = np.full(parent.size, -1, np.int64)
    place[rows] = np.arange(rows.size)
    child = np.flatnonzero((parent[rows] >= 0) & (place[parent[rows]] >= 0))
    above = place[parent[rows[child]]]
    same = name[child] == name[above]
    child, above = child[same], above[same]
    links = coo_array((np.ones(child.size, bool), (child, above)), shape=(rows.size, rows.size))
    part = connected_components(links, directed=False)[1]
    nodes = np.bincount(part, minlength=1)
    part_name = np.zeros(nodes.size, np.int64)
    part_name[part] = name
    order = np.lexsort((np.arange(nodes.size), -nodes, part_name))
    chosen = np.zeros(nodes.size, bool)
    chosen[order[np.unique(part_name[order], return_index=True)[1]]] = True
    kept = chosen[part]
    new = np.cumsum(kept) - 1
    edge = kept[child]
    return rows[kept], name[kept], new[child[edge]], new[above[edge]]


def _inmost_voxels(
    labels: np.ndarray, names: np.ndarray, voxel_size: np.ndarray
) -> list[tuple[int, tuple[int, int, int]]]:
    boxes = _boxes(labels, names) if names.size else ()
    found = []
    for name, (low, high) in zip(names.tolist(), boxes, strict=True):
        crop = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] == name
        depth = edt.edt(crop, anisotropy=tuple(voxel_size.tolist()), black_border=True)
        inmost = np.unravel_index(int(depth.argmax()), depth.shape)
        found.append((name, tuple(int(a + b) for a, b in zip(low, inmost, strict=True))))
    return found


@njit(cache=True, nogil=True)
def _boxes(labels, names):
    """(N, 2, 3) lowest and one past the highest index of each name."""
    place = np.full(names.max() + 1, -1, np.int64)
    place[names] = np.arange(names.size)
    boxes = np.empty((names.size, 2, 3), np.int64)
    boxes[:, 0] = 1 << 40
    boxes[:, 1] = 0
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                name = labels[z, y, x]
                if name < place.size and place[name] >= 0:
                    box = boxes[place[name]]
                    box[0, 0] = min(box[0, 0], z)
                    box[0, 1] = min(box[0, 1], y)
                    box[0, 2] = min(box[0, 2], x)
                    box[1, 0] = max(box[1, 0], z + 1)
                    box[1, 1] = max(box[1, 1], y + 1)
                    box[1, 2] = max(box[1, 2], x + 1)
    return boxes
