"""Multicuts by trying all partitions, the mutex watershed on sets, distant pairs one by one."""

import itertools


def partitions(count):
    """All partitions of 0 … count - 1, each as a list of segment numbers in order of appearance."""

    def grow(start):
        if len(start) == count:
            yield start
            return
        for segment in range(max(start, default=-1) + 2):
            yield from grow([*start, segment])

    yield from grow([])


def energy(costs, segments):
    """The sum of the costs {(u, v): cost} of pairs in different segments."""
    return sum(cost for (u, v), cost in costs.items() if segments[u] != segments[v])


def hang_together(pairs, segments):
    """Whether every segment is one piece over the pairs."""
    for segment in set(segments):
        nodes = {node for node, own in enumerate(segments) if own == segment}
        reached, waiting = set(), [min(nodes)]
        while waiting:
            node = waiting.pop()
            reached.add(node)
            ends = [set(pair) for pair in pairs if node in pair]
            waiting += [n for pair in ends for n in pair & nodes if n not in reached]
        if reached != nodes:
            return False
    return True


def least_energy(count, costs, lifted):
    """The smallest energy of all partitions whose segments hang together over what `costs` has.

    Pieces of a segment that do not hang together cost as much when they are two, unless lifted
    pairs link them.
    """
    return min(
        energy(costs, segments) + energy(lifted, segments)
        for segments in partitions(count)
        if not lifted or hang_together(costs, segments)
    )


def pairs_of(shape, partner):
    """All pairs (v, v + partner) of a volume, in C order of v."""
    for voxel in itertools.product(*map(range, shape)):
        other = tuple(a + step for a, step in zip(voxel, partner, strict=True))
        if all(0 <= a < size for a, size in zip(other, shape, strict=True)):
            yield voxel, other


def mutex_segments(shape, weighted):
    """The segment (a frozenset of voxels) of each voxel.

    `weighted` holds (weight, attracts, voxel, voxel): all pairs, looked at from the largest weight
    on, of equals in their own order.
    """
    segment = {voxel: frozenset([voxel]) for voxel in itertools.product(*map(range, shape))}
    apart = set()
    for _, attracts, one, two in sorted(weighted, key=lambda pair: -pair[0]):
        a, b = segment[one], segment[two]
        if a == b:
            continue
        if not attracts:
            apart.add(frozenset([a, b]))
        elif frozenset([a, b]) not in apart:
            both = a | b
            segment |= dict.fromkeys(both, both)
            apart = {frozenset(both if s in (a, b) else s for s in pair) for pair in apart}
    return segment


def distant_contacts(labels, values, partner):
    """{(u, v): affinities} of the pairs of different labels above 0, u < v."""
    found = {}
    for one, two in pairs_of(labels.shape, partner):
        u, v = sorted((int(labels[one]), int(labels[two])))
        if u and u != v:
            found.setdefault((u, v), []).append(float(values[one]))
    return found
