"""Neurites: branching chains of points that fill a box, and the labels around them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cc3d
import networkx as nx
import numpy as np
from scipy.ndimage import distance_transform_edt

STEP_NM = 50.0  # from one point of a neurite to the next
CORE_NM = 90.0  # radius around its points that always belongs to the thickest neurite
APART_NM = 100.0  # least distance from the core of a neurite to the points of any other
FINE_NM = 7.0  # smaller voxels are labelled in pairs
GRID_NM = 30.0  # of the grid that marks where there is tissue
STARTS_PER_UM3 = 3000  # places tried for a new neurite
BRANCH_EVERY_NM = 1200.0  # on average
FEWEST_POINTS, MOST_POINTS = 6, 250  # of a neurite


@dataclass(frozen=True)
class Neurites:
    """All neurites of a box, a row for each point; `parent` is the row it grew from, -1 at a root.

    `point` float64 (N, 3) and `core` float64 (N,) are in nm; `neurite` int64 (N,) counts from 1.
    """

    point: np.ndarray
    core: np.ndarray
    neurite: np.ndarray
    parent: np.ndarray


def grow_neurites(extent: np.ndarray, rng: np.random.Generator) -> Neurites:
    """Neurites that fill the box from 0 to `extent` (3,), in nm, grown one after the other."""
    taken = np.zeros(np.ceil(extent / GRID_NM).astype(int) + 1, bool)
    trees: list[Neurites] = []
    rows = 0
    trials = math.ceil(STARTS_PER_UM3 * float(np.prod(extent + GRID_NM)) * 1e-9)
    for start in rng.random((trials, 3)) * extent:
        if trees and _is_taken(taken, start):
            continue
        point, parent, blocked = _grow_one(start, taken, extent, rng)
        if trees and blocked and len(point) < FEWEST_POINTS:
            continue
        core = np.full(len(point), CORE_NM * rng.random() ** 2)
        balls = balls_in(taken.shape, point, core + APART_NM, voxel_size=np.full(3, GRID_NM))
        for box, depth in balls:
            taken[box] |= depth > 0
        parent[1:] += rows
        rows += len(point)
        trees.append(Neurites(point, core, np.full(len(point), len(trees) + 1), parent))
    names = ("point", "core", "neurite", "parent")
    return Neurites(*(np.concatenate([getattr(tree, name) for tree in trees]) for name in names))


def _is_taken(taken: np.ndarray, points: np.ndarray) -> np.ndarray:
    last = np.array(taken.shape) - 1
    cells = np.clip(np.rint(points / GRID_NM).astype(int), 0, last)
    return taken[cells[..., 0], cells[..., 1], cells[..., 2]]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _grow_one(
    start: np.ndarray, taken: np.ndarray, extent: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Points and parents of one neurite, and whether a tip reached another one."""
    points, parents, blocked = [start], [-1], False
    heading = _unit(rng.standard_normal(3))
    tips = [(0, heading), (0, -heading)]
    while tips:
        last, heading = tips.pop()
        while len(points) < MOST_POINTS:
            heading = _next_heading(points[last], heading, taken, rng)
            point = points[last] + STEP_NM * heading
            inside = np.clip(point, 0, extent)
            if _is_taken(taken, inside):
                blocked = True
                break
            points.append(inside)
            parents.append(last)
            last = len(points) - 1
            if (point != inside).any():
                break
            if rng.random() * BRANCH_EVERY_NM < STEP_NM:
                tips.append((last, _unit(heading + 0.9 * rng.standard_normal(3))))
    return np.array(points), np.array(parents), blocked


def _next_heading(
    point: np.ndarray, heading: np.ndarray, taken: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A direction near the last one that leads away from other neurites."""
    spread = np.repeat([0.2, 0.5, 0.9], 3)[:, None]
    tried = _unit(heading + spread * rng.standard_normal((9, 3)))
    ahead = point + STEP_NM * tried * np.array([1, 3])[:, None, None]
    near, far = _is_taken(taken, ahead)
    return tried[np.argmin(2 * near + far)]


def label_voxels(neurites: Neurites, shape: tuple[int, ...], voxel_size: np.ndarray) -> np.ndarray:
    """uint32 labels of `shape`: each voxel has its nearest neurite, each label is connected."""
    # Fine voxels are labelled in pairs along an axis, which saves most of the time.
    twos = np.where(voxel_size < FINE_NM, 2, 1)
    cores = np.zeros(-(-np.array(shape) // twos), np.uint32)
    spacing = voxel_size * twos
    balls = balls_in(cores.shape, neurites.point, neurites.core, voxel_size=spacing)
    for name, (box, depth) in zip(neurites.neurite, balls, strict=True):
        cores[box][depth >= 0] = name
    z, y, x = np.moveaxis(_lines(neurites, voxel_size) // twos, -1, 0)
    cores[z, y, x] = neurites.neurite[:, None]
    nearest = distance_transform_edt(
        cores == 0, sampling=spacing, return_distances=False, return_indices=True
    )
    # Voxels that touch the rest of their neurite only by an edge are in no neurite.
    pieces = cc3d.connected_components(cores[tuple(nearest)], connectivity=6)
    names = np.zeros(int(pieces.max()) + 1, np.uint32)
    names[pieces[z[:, 0], y[:, 0], x[:, 0]]] = neurites.neurite
    labels = names[pieces]
    for axis in range(3):
        labels = labels.repeat(twos[axis], axis)
    return np.ascontiguousarray(labels[tuple(map(slice, shape))])


def _lines(neurites: Neurites, voxel_size: np.ndarray) -> np.ndarray:
    """Voxels (N, V, 3) of a line from each point to its parent, its own first.

    Successive voxels of a line share faces.
    """
    parent = np.where(neurites.parent < 0, np.arange(len(neurites.parent)), neurites.parent)
    start, end = neurites.point[:, None], neurites.point[parent][:, None]
    parts = np.linspace(0, 1, math.ceil(STEP_NM / voxel_size.min()) + 1)[:, None]
    voxels = np.rint((start + parts * (end - start)) / voxel_size).astype(np.intp)
    here, after = voxels[:, :-1], voxels[:, 1:]
    axes = np.arange(3)
    stairs = [np.where(axes < moved, after, here) for moved in range(4)]
    return np.concatenate(stairs, axis=1)


def skeletons_of(neurites: Neurites, voxel_size: np.ndarray) -> nx.Graph:
    """A graph with one component for each neurite; SyntheticVolume says what its nodes have."""
    graph = nx.Graph()
    index = np.rint(neurites.point / voxel_size).astype(int).tolist()
    rows = zip(neurites.neurite.tolist(), index, neurites.point.tolist(), strict=True)
    for node, (name, voxel, point) in enumerate(rows):
        graph.add_node(node, id=name, index_position=tuple(voxel), nm_position=tuple(point))
    graph.add_edges_from((n, p) for n, p in enumerate(neurites.parent.tolist()) if p >= 0)
    return graph


def balls_in(
    shape: tuple[int, ...], centres: np.ndarray, radii: np.ndarray, *, voxel_size: np.ndarray
) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """For each ball the box of voxels around it, cut at the border, and their depths in the ball.

    `shape` is the grid's; voxel i is centred at i times `voxel_size`. `centres` (N, 3), `radii`
    (N,) and depths are in nm; outside the ball a depth is negative.
    """
    axes = [np.arange(n) * size for n, size in zip(shape, voxel_size, strict=True)]
    reach = np.asarray(radii)[:, None]
    lows = np.clip(np.ceil((centres - reach) / voxel_size), 0, shape).astype(int).tolist()
    highs = np.clip(np.floor((centres + reach) / voxel_size) + 1, 0, shape).astype(int).tolist()
    for centre, radius, low, high in zip(centres, radii, lows, highs, strict=True):
        box = tuple(map(slice, low, high))
        z, y, x = ((axis[part] - c) ** 2 for axis, part, c in zip(axes, box, centre, strict=True))
        yield box, radius - np.sqrt(z[:, None, None] + y[:, None] + x)
