"""Neurite-like trees, packed into a box: the geometry under a synthetic volume.

Lengths are nanometres. A tree is a chain of balls `(centre, radius)` with branches; trees grow one
after the other, steer away from the tissue that is there and thin out where it is tight, until a
new seed finds no more room.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

STEP = 0.5  # distance of consecutive centres, in radii
SQUEEZE = 0.6  # a neurite squeezed below this part of its own radius ends there
OVERLAP = 1.2  # a ball may reach this much into its neighbour before it is squeezed
HEADINGS = 3  # directions tried at every step
SEED_TRIALS = 12  # places tried for a new neurite; the roomiest is taken
FAILED_SEEDS = 40  # seeds without room, in a row, after which the box counts as full
BRANCH_EVERY = 6.0  # mean length between branches, in diameters
BRANCHES = 8  # of a tree, at most
OWN_BLIND = 14  # the newest balls of a neurite, which do not stand in its way
RADIUS_RANGE = (0.65, 1.7)  # of the mean radius
MITOCHONDRION_FROM = 0.65  # thinner neurites, in mean radii, hold no mitochondrion


@dataclass(frozen=True)
class Neurites:
    """All trees of a box: one row a ball, `parent` is the row it grew from (-1 at a root)."""

    centre: np.ndarray  # (N, 3) float32, nm
    radius: np.ndarray  # (N,) float32, nm
    tree: np.ndarray  # (N,) int32, from 1
    parent: np.ndarray  # (N,) int32
    mitochondrion: np.ndarray  # (N,) float32, nm: radius of the mitochondrion on the axis, or 0


def grow_neurites(
    low: np.ndarray, high: np.ndarray, *, diameter_nm: float, rng: np.random.Generator
) -> Neurites:
    """Trees of balls that fill the box from `low` to `high` (nm), about `diameter_nm` thick."""
    extent = (high - low).astype(np.float64)
    capacity = 4096 + int(40 * np.prod(extent / diameter_nm))
    centre, radius, tree, parent = _grow(low.astype(np.float64), extent, diameter_nm, capacity, rng)
    mitochondrion = _place_mitochondria(radius, tree, parent, diameter_nm, rng)
    return Neurites(centre, radius, tree, parent, mitochondrion)


@njit(cache=True, nogil=True)
def _cell_of(point, low, size, cells):
    cell = np.empty(3, np.int64)
    for axis in range(3):
        cell[axis] = min(max(int((point[axis] - low[axis]) / size), 0), cells[axis] - 1)
    return cell


@njit(cache=True, nogil=True)
def _room(point, own, first_near, low, size, cells, head, link, centre, radius, tree):
    """Distance from `point` to the nearest surface, capped by `size`.

    Balls of the tree `own` from row `first_near` on do not count.
    """
    cell = _cell_of(point, low, size, cells)
    room = size
    for z in range(max(cell[0] - 1, 0), min(cell[0] + 2, cells[0])):
        for y in range(max(cell[1] - 1, 0), min(cell[1] + 2, cells[1])):
            for x in range(max(cell[2] - 1, 0), min(cell[2] + 2, cells[2])):
                ball = head[z, y, x]
                while ball >= 0:
                    if tree[ball] != own or ball < first_near:
                        dz = point[0] - centre[ball, 0]
                        dy = point[1] - centre[ball, 1]
                        dx = point[2] - centre[ball, 2]
                        reach = room + radius[ball]
                        squared = dz * dz + dy * dy + dx * dx
                        if reach > 0 and squared < reach * reach:
                            room = math.sqrt(squared) - radius[ball]
                    ball = link[ball]
    return room


@njit(cache=True, nogil=True)
def _turned(direction, spread, rng):
    turned = np.empty(3)
    for axis in range(3):
        turned[axis] = direction[axis] + spread * rng.normal()
    norm = math.sqrt(turned[0] ** 2 + turned[1] ** 2 + turned[2] ** 2)
    return turned / max(norm, 1e-9)


@njit(cache=True, nogil=True)
def _grow(low, extent, diameter, capacity, rng):
    size = diameter * 1.2
    cells = np.empty(3, np.int64)
    for axis in range(3):
        cells[axis] = int(extent[axis] / size) + 1
    head = np.full((cells[0], cells[1], cells[2]), -1, np.int32)
    link = np.empty(capacity, np.int32)
    centre = np.empty((capacity, 3), np.float32)
    radius = np.empty(capacity, np.float32)
    tree = np.empty(capacity, np.int32)
    parent = np.empty(capacity, np.int32)
    tip_ball = np.empty(BRANCHES + 2, np.int32)
    tip_heading = np.empty((BRANCHES + 2, 3))
    tip_radius = np.empty(BRANCHES + 2)
    balls = 0
    own = 0
    failed = 0
    while failed < FAILED_SEEDS and balls < capacity:
        wanted = math.exp(0.35 * rng.normal())
        wanted = 0.5 * diameter * min(max(wanted, RADIUS_RANGE[0]), RADIUS_RANGE[1])
        start = np.empty(3)
        start_room = -size
        for _ in range(SEED_TRIALS):
            point = low + rng.random(3) * extent
            room = _room(point, 0, 0, low, size, cells, head, link, centre, radius, tree)
            if room > start_room:
                start_room = room
                start = point
        if start_room * OVERLAP < 0.9 * wanted:
            failed += 1
            continue
        failed = 0
        own += 1
        heading = _turned(np.zeros(3), 1.0, rng)
        tips = 0
        branches = 0
        for sign in (-1.0, 1.0):
            tip_ball[tips] = balls
            tip_heading[tips] = heading * sign
            tip_radius[tips] = wanted
            tips += 1
        centre[balls] = start
        radius[balls] = min(wanted, start_room * OVERLAP)
        tree[balls] = own
        parent[balls] = -1
        cell = _cell_of(start, low, size, cells)
        link[balls] = head[cell[0], cell[1], cell[2]]
        head[cell[0], cell[1], cell[2]] = balls
        balls += 1
        while tips > 0 and balls < capacity:
            tips -= 1
            last = tip_ball[tips]
            direction = tip_heading[tips].copy()
            wanted = tip_radius[tips]
            begun = balls
            while balls < capacity:
                step = STEP * min(radius[last], wanted)
                near = 0 if balls < begun + OWN_BLIND else balls - OWN_BLIND
                inside = True
                fitting = 0.0
                point = start
                # A blocked tip tries sharper and sharper turns before it gives up.
                for spread in (0.2, 0.5, 0.9):
                    best = -np.inf
                    chosen = direction
                    for _ in range(HEADINGS):
                        tried = _turned(direction, spread, rng)
                        ahead = centre[last] + tried * (1.5 * wanted)
                        room = _room(
                            ahead, own, near, low, size, cells, head, link, centre, radius, tree
                        )
                        score = min(room, 1.2 * wanted) / wanted + 0.2 * rng.random()
                        if score > best:
                            best = score
                            chosen = tried
                    point = centre[last] + chosen * step
                    for axis in range(3):
                        if not 0 <= point[axis] - low[axis] < extent[axis]:
                            inside = False
                    room = _room(
                        point, own, near, low, size, cells, head, link, centre, radius, tree
                    )
                    fitting = min(wanted * (1.0 + 0.12 * rng.normal()), room * OVERLAP)
                    if not inside or fitting >= SQUEEZE * wanted:
                        direction = chosen
                        break
                if not inside or fitting < SQUEEZE * wanted:
                    break
                # The calibre follows its wish slowly: necks and varicosities, no steps.
                fitting = min(fitting, 0.8 * radius[last] + 0.2 * fitting + 0.05 * wanted)
                centre[balls] = point
                radius[balls] = fitting
                tree[balls] = own
                parent[balls] = last
                cell = _cell_of(point, low, size, cells)
                link[balls] = head[cell[0], cell[1], cell[2]]
                head[cell[0], cell[1], cell[2]] = balls
                last = balls
                balls += 1
                if rng.random() * BRANCH_EVERY * diameter < step and branches < BRANCHES:
                    branches += 1
                    tip_ball[tips] = last
                    tip_heading[tips] = _turned(direction, 0.9, rng)
                    tip_radius[tips] = max(
                        wanted * (0.65 + 0.3 * rng.random()), 0.5 * diameter * RADIUS_RANGE[0]
                    )
                    tips += 1
    return centre[:balls].copy(), radius[:balls].copy(), tree[:balls].copy(), parent[:balls].copy()


@njit(cache=True, nogil=True)
def _place_mitochondria(radius, tree, parent, diameter, rng):
    """Runs of balls along an axis hold a mitochondrion, with gaps between them."""
    balls = radius.size
    mitochondrion = np.zeros(balls, np.float32)
    remaining = np.zeros(balls)  # nm: > 0 inside a run, < 0 in the gap after one
    part = np.zeros(balls)
    for ball in range(balls):
        before = parent[ball]
        left = -rng.random() * 6.0 * diameter if before < 0 else remaining[before]
        filling = 0.6 if before < 0 else part[before]
        step = STEP * radius[ball]
        if left > 0:
            left -= step
            if left <= 0:
                left = -(1.0 + 3.0 * rng.random()) * diameter
        else:
            left += step
            if left >= 0 and radius[ball] > MITOCHONDRION_FROM * 0.5 * diameter:
                left = (0.8 + 2.0 * rng.random()) * diameter
                filling = 0.5 + 0.3 * rng.random()
            else:
                left = min(left, -1e-3)
        remaining[ball] = left
        part[ball] = filling
        if left > 0:
            mitochondrion[ball] = filling * radius[ball]
    return mitochondrion
