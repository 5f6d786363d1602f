"""Groups of regions that can be merged by themselves, and the contacts inside and between them."""

import numpy as np

from emseg.kernels.compiled import kernel

# What groups are made of: the regions of a contact, its score and its label.
PAIR = np.dtype([("u", np.int32), ("v", np.int32), ("score", np.float32), ("label", np.int32)])
# Scores are sorted by so many steps between 0 and 1.
_STEPS = 1 << 16


@kernel
def note_outside(contacts, stop, until, active, outside):
    """Notes which regions a merge may change, and the lowest score of contacts between chunks.

    Args:
        contacts: CONTACTs of a chunk, which has the regions before `stop` that no chunk before has.
        until: float32, the score that ends merging.
        active: bool per region; becomes true where a contact scores below `until`.
        outside: float32 per region; becomes the lowest score of its contacts between chunks.
    """
    for contact in contacts:
        if contact.score < until:
            active[contact.u] = active[contact.v] = True
            if contact.v >= stop:
                outside[contact.u] = min(outside[contact.u], contact.score)
                outside[contact.v] = min(outside[contact.v], contact.score)


@kernel
def pairs_by_score(contacts, start, stop, until):
    """PAIRs of the contacts that score below `until`, in the order of their scores (16 bits).

    Those of the regions from `start` up to `stop`, which count from 0 in PAIRs.
    """
    ends = np.zeros(_STEPS + 2, np.int32)
    for contact in contacts:
        if contact.score < until and contact.v < stop:
            ends[_step(contact.score) + 1] += 1
    for step in range(_STEPS + 1):
        ends[step + 1] += ends[step]
    pairs = np.empty(ends[-1], PAIR)
    for contact in contacts:
        if contact.score < until and contact.v < stop:
            step = _step(contact.score)
            pair = pairs[ends[step]]
            pair.u, pair.v = contact.u - start, contact.v - start
            pair.score, pair.label = contact.score, contact.label
            ends[step] += 1
    return pairs


@kernel
def _step(score):
    return np.int64(score * np.float32(_STEPS))


@kernel
def capped_groups(pairs, regions, most):
    """(groups, their number): int32, per region the number of its group; -1 where it is in no pair.

    Pairs join their groups in the order given, where that makes a group of at most `most` regions:
    single linkage, capped.
    """
    parents = np.full(regions, -1, np.int32)  # below 0: a root, minus the regions of its group
    for pair in pairs:
        one, two = _root(parents, pair.u), _root(parents, pair.v)
        if parents[one] > parents[two]:
            one, two = two, one
        if one != two and parents[one] + parents[two] >= -most:
            parents[one] += parents[two]
            parents[two] = one
    groups, numbers = np.full(regions, -1, np.int32), np.full(regions, -1, np.int32)
    for pair in pairs:
        groups[pair.u] = groups[pair.v] = 0
    count = 0
    for region in range(regions):
        if groups[region] >= 0:
            root = _root(parents, region)
            if numbers[root] < 0:
                numbers[root], count = count, count + 1
            groups[region] = numbers[root]
    return groups, count


@kernel
def _root(parents, region):
    while parents[region] >= 0:
        above = parents[region]
        if parents[above] >= 0:
            parents[region] = parents[above]
        region = above
    return region


@kernel
def split_by_group(contacts, start, active, groups, count, found, outside):
    """Puts contacts inside groups into `found`, group after group, and all others after them.

    Those of regions that no merge can change are left out.

    Args:
        contacts: CONTACTs of a chunk that begins with the region `start`.
        active: of `note_outside`.
        groups, count: of `capped_groups`.
        found: CONTACTs, as many as `contacts`. Regions count from 0 in those inside groups.
        outside: float32 per region of the chunk; becomes the lowest score of its contacts outside
            of its group, if that is lower.

    Returns:
        (starts, end): group g has those from `starts[g]` to `starts[g + 1]`, `end` ends them all.
    """
    starts = np.zeros(count + 1, np.int64)
    for contact in contacts:
        group = _inside(contact, start, groups)
        if group >= 0:
            starts[group + 1] += 1
    for group in range(count):
        starts[group + 1] += starts[group]
    ends, end = starts[:count].copy(), starts[count]
    for contact in contacts:
        group = _inside(contact, start, groups)
        if group >= 0:
            own = found[ends[group]]
            found[ends[group]] = contact
            own.u, own.v = contact.u - start, contact.v - start
            ends[group] += 1
        elif active[contact.u] and active[contact.v]:
            found[end] = contact
            end += 1
            for region in (contact.u - start, contact.v - start):
                if region < len(outside):
                    outside[region] = min(outside[region], contact.score)
    return starts, end


@kernel
def _inside(contact, start, groups):
    """The group of both regions, -1 without one."""
    one, two = contact.u - start, contact.v - start
    return groups[one] if two < len(groups) and groups[one] == groups[two] else -1


@kernel
def queues_of(pairs, groups, starts):
    """(queues, ends): those of group g, from `starts[g]` to `ends[g]`, in the order of its PAIRs.

    Entries are score bits * 2^32 + label, uint64.
    """
    queues, ends = np.empty(starts[-1], np.uint64), starts[:-1].copy()
    score = np.empty(1, np.float32)
    bits = score.view(np.uint32)
    for pair in pairs:
        group = groups[pair.u]
        if group == groups[pair.v]:
            score[0] = pair.score
            queues[ends[group]] = np.uint64(bits[0]) << np.uint64(32) | np.uint64(pair.label)
            ends[group] += 1
    return queues, ends
