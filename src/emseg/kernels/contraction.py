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
def contract(parts, numbers, count, samples, rule, ends, found):
    """The number of contacts of the regions left, which are put in `found`.

    Args:
        parts: arrays of CONTACTs, without two of one pair in the same array; changed.
        numbers, count: of `number_regions`.
        samples, rule: of `fill_contacts`.
        ends: int32 zeros, one more than regions left.
        found: CONTACTs, as many as in all parts.
    """
    for contacts in parts:
        for contact in contacts:
            if contact.u != GONE:
                one, two = numbers[contact.u], numbers[contact.v]
                contact.u, contact.v = min(one, two), max(one, two)
                ends[contact.u + 1] += 1
    for region in range(count):
        ends[region + 1] += ends[region]
    for contacts in parts:
        for contact in contacts:
            if contact.u != GONE:
                found[ends[contact.u]] = contact
                ends[contact.u] += 1
    # Contacts of u now end at ends[u]. Those of one pair are added up.
    seen, kept, place = np.zeros(count, np.int32), 0, 0
    for region in range(count):
        first = kept
        while place < ends[region]:
            contact = found[place]
            twin = seen[contact.v] - 1
            if twin >= first:
                add_contact(found[twin], contact, samples, rule.quantile)
            else:
                found[kept] = contact
                kept += 1
                seen[contact.v] = kept
            place += 1
    for contact in found[:kept]:
        if contact.stale:
            contact.score, contact.stale = score_of(contact, samples, rule), 0
    return kept
