"""Nodes and run lengths of skeletons in segments, from one pass over nodes and one over edges."""

import numpy as np

from emseg.kernels.compiled import kernel


@kernel
def count_nodes(owner, segments):
    """The different pairs of owner and segment of nodes.

    Args:
        owner, segments: int64 (N,), per node.

    Returns:
        pair (N,), owners, segments, nodes, all int64: each node's place in the other three, which
        hold a pair's owner, segment and number of nodes, in the order in which pairs are first
        found.
    """
    pair = np.empty(len(owner), np.int64)
    # Open addressing; a slot holds the pair's number + 1, or 0.
    slots = np.zeros(4096, np.int64)
    owners, names = np.empty(2048, np.int64), np.empty(2048, np.int64)
    nodes = np.zeros(2048, np.int64)
    count = at = 0
    # Arrays grow here, since an inner loop that makes arrays counts references at every step.
    while True:
        at, count = _count_until_full(owner, segments, at, count, slots, owners, names, nodes, pair)
        if at == len(owner):
            return pair, owners[:count].copy(), names[:count].copy(), nodes[:count].copy()
        owners, names, nodes = _twice(owners), _twice(names), _twice(nodes)
        slots = _spread(2 * len(slots), owners, names, count)


@kernel
def _count_until_full(owner, segments, at, count, slots, owners, names, nodes, pair):
    known = -1
    while at < len(owner):
        # Neighbours on a skeleton mostly lie in one segment.
        if known < 0 or owners[known] != owner[at] or names[known] != segments[at]:
            slot = _slot(slots, owners, names, owner[at], segments[at])
            if slots[slot] == 0:
                if count == len(owners):
                    break
                owners[count], names[count] = owner[at], segments[at]
                count += 1
                slots[slot] = count
            known = slots[slot] - 1
        nodes[known] += 1
        pair[at] = known
        at += 1
    return at, count


@kernel
def _slot(slots, owners, names, owner, name):
    mixed = np.uint64(name) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(owner)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    last = np.int64(len(slots) - 1)
    slot = np.int64(mixed >> np.uint64(32)) & last
    while slots[slot] and (owners[slots[slot] - 1] != owner or names[slots[slot] - 1] != name):
        slot = (slot + 1) & last
    return slot


@kernel
def _twice(array):
    longer = np.zeros(2 * len(array), array.dtype)
    longer[: len(array)] = array
    return longer


@kernel
def _spread(size, owners, names, count):
    slots = np.zeros(size, np.int64)
    for number in range(count):
        slots[_slot(slots, owners, names, owners[number], names[number])] = number + 1
    return slots


@kernel
def add_runs(edges, lengths, segments, pair, count):
    """(run, splits): the length of the edges within each pair, and the number of edges between two.

    Args:
        edges: (E, 2) nodes.
        lengths: per edge, in any unit.
        segments, pair: per node its segment, and its pair of owner and segment (`count_nodes`).
        count: the number of pairs.

    Returns:
        run, float64 (count,), 0 for pairs of segment 0; and the number of edges between two
        segments, neither of them 0.
    """
    run, splits = np.zeros(count), 0
    for edge in range(len(edges)):
        one, two = edges[edge, 0], edges[edge, 1]
        if segments[one] == segments[two]:
            run[pair[one]] += lengths[edge] if segments[one] else 0
        elif segments[one] and segments[two]:
            splits += 1
    return run, splits
