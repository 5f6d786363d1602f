"""Groups of regions that can be merged by themselves, and the contacts inside and between them."""

import numpy as np

from emseg.kernels.compiled import kernel

# What groups are made of: the regions of a contact, its score and its label.
PAIR = np.dtype([("u", np.int32), ("v", np.int32), ("score", np.float32), ("label", np.int32)])
# Scores are sorted by so many steps between 0 and 1.
_STEPS = 1 << 16


@kernel
def pairs_by_score(contacts, until):
    """PAIRs of the contacts that score below `until`, in the order of their scores (16 bits)."""
    ends = np.zeros(_STEPS + 2, np.int32)
    for contact in contacts:
        if contact.score < until:
            ends[_step(contact.score) + 1] += 1
    for step in range(_STEPS + 1):
        ends[step + 1] += ends[step]
    pairs = np.empty(ends[-1], PAIR)
    for contact in contacts:
        if contact.score < until:
            step = _step(contact.score)
            pair = pairs[ends[step]]
            pair.u, pair.v = contact.u, contact.v
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
def split_by_group(contacts, pairs, groups, count, inner, outer, best_outside):
    """Puts contacts inside groups into `inner`, group after group, and others into `outer`.

    Those of regions without a group, which no merge can change, are left out.

    Args:
        contacts: CONTACTs.
        pairs, groups, count: of `pairs_by_score` and `capped_groups`.
        inner, outer: CONTACTs, as many as `contacts`.
        best_outside: float32 per region; becomes the lowest score of its outer contacts, if that is
            lower.

    Returns:
        (starts, queues, ends, number of outer contacts). Group g has the contacts of `inner` from
        `starts[g]` to `starts[g + 1]`; `queues` from `starts[g]` to `ends[g]` are score bits * 2^32
        + label (uint64) of its PAIRs, in their order.
    """
    starts, n_outer = np.zeros(count + 1, np.int64), 0
    for contact in contacts:
        one, two = groups[contact.u], groups[contact.v]
        if one == two and one >= 0:
            starts[one + 1] += 1
        elif one >= 0 and two >= 0:
            outer[n_outer] = contact
            n_outer += 1
            best_outside[contact.u] = min(best_outside[contact.u], contact.score)
            best_outside[contact.v] = min(best_outside[contact.v], contact.score)
    for group in range(count):
        starts[group + 1] += starts[group]
    ends = starts[:count].copy()
    for contact in contacts:
        group = groups[contact.u]
        if group >= 0 and group == groups[contact.v]:
            inner[ends[group]] = contact
            ends[group] += 1
    queues, score = np.empty(starts[count], np.uint64), np.empty(1, np.float32)
    bits = score.view(np.uint32)
    ends[:] = starts[:count]
    for pair in pairs:
        group = groups[pair.u]
        if group == groups[pair.v]:
            score[0] = pair.score
            queues[ends[group]] = np.uint64(bits[0]) << np.uint64(32) | np.uint64(pair.label)
            ends[group] += 1
    return starts, queues, ends, n_outer
