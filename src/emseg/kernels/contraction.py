"""The contacts between regions after some of these merged."""

import numpy as np

from emseg.kernels.agglomeration import GONE
from emseg.kernels.compiled import kernel
from emseg.kernels.contacts import add_contact, score_of


@kernel
def number_regions(regions, numbers):
    """The number of regions left; `numbers` (int32) becomes, per REGION, its number among them."""
    count = 0
    for region in range(len(regions)):
        if regions[region].into < 0:
            numbers[region], count = count, count + 1
    for region in range(len(regions)):
        root = region
        while regions[root].into >= 0:
            root = regions[root].into
        while regions[region].into >= 0:
            above = regions[region].into
            regions[region].into, numbers[region] = root, numbers[root]
            region = above
    return count


@kernel
def contract(contacts, inside, start, numbers, left, first, ends, samples, rule, found):
    """The number of contacts between the regions left, which are put in `found`.

    Args:
        contacts: CONTACTs of a chunk; in the first `inside` regions count from 0; changed.
        start: the first region of the chunk.
        numbers: int32 per region, its number among the `left` that are left.
        first: the number of the chunk's first region left.
        ends: int32 zeros, one more than the chunk has regions left.
        samples, rule: of `fill_contacts`.
        found: CONTACTs, as many as `contacts`.
    """
    for place in range(len(contacts)):
        contact = contacts[place]
        if contact.u != GONE:
            shift = start if place < inside else 0
            one, two = numbers[contact.u + shift], numbers[contact.v + shift]
            contact.u, contact.v = min(one, two), max(one, two)
            ends[contact.u - first + 1] += 1
    for region in range(len(ends) - 1):
        ends[region + 1] += ends[region]
    for contact in contacts:
        if contact.u != GONE:
            found[ends[contact.u - first]] = contact
            ends[contact.u - first] += 1
    # Contacts of a region now end at its entry. Those of one pair are added up.
    seen, kept, place = np.empty(left, np.int32), 0, 0
    for region in range(len(ends) - 1):
        begin = kept
        while place < ends[region]:
            contact = found[place]
            twin = seen[contact.v]
            if begin <= twin < kept and found[twin].v == contact.v:
                add_contact(found[twin], contact, samples, rule.quantile)
            else:
                found[kept] = contact
                seen[contact.v] = kept
                kept += 1
            place += 1
    for contact in found[:kept]:
        if contact.stale:
            contact.score, contact.stale = score_of(contact, samples, rule), 0
    return kept
