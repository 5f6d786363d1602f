"""Merges the regions of a group, lowest score first, as far as no contact outside is better.

Two regions may merge when their contact is the best of both, whatever happens elsewhere: no merge
makes a better one (see docs/decoding.md). A region that may have a better contact outside of its
group is frozen, and so is each region whose best contact leads to a frozen one.
"""

from typing import NamedTuple

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.contacts import Rule, add_contact, score_of
from emseg.kernels.heap import FIRST, pop, push

# A region: the first and last of its list of half contacts (2 * place + 1 for the side of v, else
# 2 * place; -1 for none; the array `after` has the one after each), their number, the smallest
# fragment in it, the region it was merged into (-1: none), and the lowest score of its contacts
# outside of the group, -1 if it is frozen.
REGION = np.dtype(
    [
        ("head", np.int32),
        ("tail", np.int32),
        ("length", np.int32),
        ("fragment", np.int32),
        ("into", np.int32),
        ("outside", np.float32),
    ]
)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
# A contact that was added to another, or whose regions were merged, has this u.
GONE = -1


class Shared(NamedTuple):
    """What the groups of a chunk share, each entry for one of them.

    `regions` are REGIONs with empty lists, `owners` int32 per label from `first_label` on, work
    space, `samples` and `rule` those of `fill_contacts`. `parents` int32 and `heights` float32,
    per fragment, are filled as MergeTree has them.
    """

    regions: np.ndarray
    owners: np.ndarray
    first_label: int
    samples: np.ndarray
    rule: Rule
    parents: np.ndarray
    heights: np.ndarray


@kernel
def merge_groups(contacts, starts, queues, ends, first, last, shared, work):
    """Merges the regions of the groups from `first` up to `last`.

    Args:
        contacts, starts: of `split_by_group`; the u of those that do not stay becomes GONE.
        queues, ends: of `queues_of`.
        shared: a Shared.
        work: uint64, 6 entries for each contact of the largest group and 16 more; work space.
    """
    for group in range(first, last):
        own = contacts[starts[group] : starts[group + 1]]
        for place in range(len(own)):
            shared.owners[own[place].label - shared.first_label] = place
        size = _table_size(len(own))
        end = size + len(own)
        after = work[size:end].view(np.int32)
        _merge_group(
            own, queues[starts[group] : ends[group]], shared, work[:size], work[end:], after
        )


@kernel
def _table_size(contacts):
    size = 8
    while size < 2 * contacts:
        size *= 2
    return size


@kernel
def _merge_group(contacts, queue, shared, table, heap, after):
    regions, rule = shared.regions, shared.rule
    used = _fill_table(table, contacts)
    _fill_lists(contacts, regions, after)
    end, waiting = _sort_out(queue, heap)
    at, bits = 0, np.empty(1, np.uint32)
    as_float = bits.view(np.float32)
    while at < waiting or end > FIRST:
        if end == FIRST or (at < waiting and queue[at] < heap[FIRST]):
            key, at = queue[at], at + 1
        else:
            key, end = heap[FIRST], end - 1
            pop(heap, end)
        contact = contacts[shared.owners[np.int64(key & _LOW) - shared.first_label]]
        if contact.u == GONE:
            continue
        one, two = regions[contact.u], regions[contact.v]
        if contact.stale:
            contact.score, contact.stale = score_of(contact, shared.samples, rule), 0
        as_float[0] = contact.score
        now = np.uint64(bits[0]) << _HALF | np.uint64(contact.label)
        if now > key and contact.score < rule.until:
            push(heap, end, now)
            end += 1
        if now > key:
            continue
        if one.outside <= contact.score or two.outside <= contact.score:
            one.outside = two.outside = np.float32(-1)
            continue
        child = max(one.fragment, two.fragment)
        shared.parents[child] = min(one.fragment, two.fragment)
        shared.heights[child] = contact.score
        small, large = contact.u, contact.v
        if one.length > two.length:
            small, large = large, small
        contact.u = GONE
        # Places of pairs that no longer exist stay in use until the table is filled anew.
        if 4 * (used + regions[small].length) > 3 * len(table):
            used = _fill_table(table, contacts)
        used = _move(small, large, contacts, shared, table, after, used)


@kernel
def _sort_out(queue, heap):
    """(end of the heap, length of the queue): what is not in ascending order goes to the heap."""
    end, waiting = FIRST, 0
    for key in queue:
        if waiting and key < queue[waiting - 1]:
            push(heap, end, key)
            end += 1
        else:
            queue[waiting] = key
            waiting += 1
    return end, waiting


@kernel
def _fill_lists(contacts, regions, after):
    for place in range(len(contacts)):
        for half, number in ((2 * place, contacts[place].u), (2 * place + 1, contacts[place].v)):
            region = regions[number]
            after[half], region.head = region.head, half
            region.length += 1
            if after[half] < 0:
                region.tail = half


@kernel
def _move(small, large, contacts, shared, table, after, used):
    """Merges the region `small` into `large`; returns how many places of the table are in use."""
    of, to = shared.regions[small], shared.regions[large]
    to.length += of.length - 2
    to.fragment, to.outside = min(of.fragment, to.fragment), min(of.outside, to.outside)
    of.into = large
    half = of.head
    while half >= 0:
        place, following = half >> 1, after[half]
        contact = contacts[place]
        if contact.u != GONE:
            third = contact.u if half & 1 else contact.v
            spot, tag = _spot(table, contacts, third, large)
            stays = table[spot] == 0
            if stays:
                used += 1
            else:
                twin_place = np.int64(table[spot] & _LOW) - 1
                twin = contacts[twin_place]
                shared.regions[third].length -= 1
                to.length -= 1
                # The lower score stays, whose place in the queue is not behind that of the sum.
                stays = contact.score < twin.score
                winner, loser = (contact, twin) if stays else (twin, contact)
                add_contact(winner, loser, shared.samples, shared.rule.quantile)
                shared.owners[winner.label - shared.first_label] = place if stays else twin_place
                loser.u = GONE
            if stays:
                table[spot] = tag << _HALF | np.uint64(place + 1)
                if half & 1:
                    contact.v = large
                else:
                    contact.u = large
                if to.tail < 0:
                    to.head = half
                else:
                    after[to.tail] = half
                to.tail, after[half] = half, -1
        half = following
    return used


@kernel
def _fill_table(table, contacts):
    """Puts the contacts left in a hash table of pairs of regions; returns their number."""
    table[:] = 0
    used = 0
    for place in range(len(contacts)):
        contact = contacts[place]
        if contact.u != GONE:
            spot, tag = _spot(table, contacts, contact.u, contact.v)
            table[spot] = tag << _HALF | np.uint64(place + 1)
            used += 1
    return used


@kernel
def _spot(table, contacts, one, two):
    """(place of the contact of two regions, or the free place for it, high half of its entry)."""
    low, high = min(one, two), max(one, two)
    mixed = np.uint64(low) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(high)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    tag, last = mixed >> _HALF, len(table) - 1
    spot = np.int64(tag) & last
    while table[spot] != 0:
        if table[spot] >> _HALF == tag:
            contact = contacts[np.int64(table[spot] & _LOW) - 1]
            if min(contact.u, contact.v) == low and max(contact.u, contact.v) == high:
                break
        spot = (spot + 1) & last
    return spot, tag


@kernel
def roots_below(parents, heights, threshold):
    """Per fragment the smallest one of its region after merging all scores below `threshold`."""
    roots = np.empty_like(parents)
    for fragment in range(len(parents)):
        # A parent is smaller than its child, and merges no earlier.
        merged = heights[fragment] < threshold
        roots[fragment] = roots[parents[fragment]] if merged else fragment
    return roots
