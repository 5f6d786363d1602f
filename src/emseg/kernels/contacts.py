"""Contacts of regions while these merge: their scores, and how two of them become one."""

from typing import NamedTuple

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.region_edges import SUM_UNIT

# A contact of the regions u and v. `count` affinities (or samples of a histogram) make its score;
# `sum` is their sum in units of 1 / SUM_UNIT, or the first SAMPLE of its histogram. `label` is the
# largest index of the edges that it was joined of. A `stale` score is that of before other contacts
# were added to it.
CONTACT = np.dtype(
    [
        ("sum", np.int64),
        ("u", np.int32),
        ("v", np.int32),
        ("score", np.float32),
        ("count", np.uint32),
        ("label", np.int32),
        ("stale", np.int32),
    ]
)

# A histogram is a list of samples with ascending bins, each bin once.
SAMPLE = np.dtype([("next", np.int32), ("bin", np.int32), ("weight", np.uint32)])


class Rule(NamedTuple):
    """How contacts are scored, and up to which score they are merged.

    `quantile` is in percent, 0 for the mean; with `levels` means are rounded to the centres of 256
    bins; `until` is a float32.
    """

    quantile: int
    levels: bool
    until: np.float32


@kernel
def fill_samples(starts, bins, weights, samples):
    """Fills the samples of all edges: `bins` and `weights` from starts[e] to starts[e + 1] are e's.

    Args:
        starts: int32, one more than edges.
        bins, weights: uint8, ascending for each edge, and int32.
        samples: SAMPLEs, as many.
    """
    for edge in range(len(starts) - 1):
        for place in range(starts[edge], starts[edge + 1]):
            sample = samples[place]
            sample.bin, sample.weight = bins[place], weights[place]
            sample.next = place + 1 if place + 1 < starts[edge + 1] else -1


@kernel
def note_active(edges, first, starts, samples, rule, active):
    """Sets `active` (bool) for the regions that have an edge with a score below `rule.until`.

    The others never merge. Args as for `fill_contacts`.
    """
    scratch = np.empty(1, CONTACT)
    for place in range(len(edges)):
        edge = edges[place]
        _fill_contact(scratch[0], edge, first + place, starts, samples, rule)
        if scratch[0].score < rule.until:
            active[edge.u] = active[edge.v] = True


@kernel
def fill_contacts(edges, first, starts, samples, rule, active, contacts):
    """The number of edges between active regions, each of which fills one of the contacts.

    Args:
        edges: EDGEs of a region graph, each pair of regions once.
        first: the label of the first.
        starts, samples: of `fill_samples`; not for means.
        rule: a Rule.
        active: of `note_active`.
        contacts: CONTACTs, enough of them.
    """
    count = 0
    for place in range(len(edges)):
        edge = edges[place]
        if active[edge.u] and active[edge.v]:
            _fill_contact(contacts[count], edge, first + place, starts, samples, rule)
            count += 1
    return count


@kernel
def _fill_contact(contact, edge, label, starts, samples, rule):
    contact.u, contact.v, contact.label, contact.stale = edge.u, edge.v, label, 0
    contact.sum, contact.count = edge.sum, edge.count
    if rule.quantile:
        contact.sum, contact.count = starts[label], 0
        for place in range(starts[label], starts[label + 1]):
            contact.count += samples[place].weight
    contact.score = score_of(contact, samples, rule)


@kernel
def score_of(contact, samples, rule):
    """One minus the mean or quantile of a contact's affinities, float32."""
    if rule.quantile:
        wanted = rule.quantile * np.int64(contact.count) // 100 + 1
        sample = samples[contact.sum]
        below = np.int64(sample.weight)
        while below < wanted:
            sample = samples[sample.next]
            below += np.int64(sample.weight)
        return np.float32((255.5 - sample.bin) / 256)
    # Sum and count are exact and all rounding is monotonic: two contacts never score below both.
    mean = np.float32(np.float64(contact.sum) / (np.float64(contact.count) * SUM_UNIT))
    score = np.float32(1.0 - np.float64(mean))
    if rule.levels:
        return np.float32((min(int(score * np.float32(256)), 255) + 0.5) / 256)
    return score


@kernel
def add_contact(to, of, samples, quantile):
    """Adds the contact `of` to another of the same regions, whose score is then stale.

    The stale score is the lower of both: no other score of the sum is below it.
    """
    to.sum = _joined(samples, to.sum, of.sum) if quantile else to.sum + of.sum
    to.count += of.count
    to.label, to.score = max(to.label, of.label), min(to.score, of.score)
    to.stale = 1


@kernel
def _joined(samples, one, other):
    """The first sample of the histogram that has those of two histograms."""
    if samples[other].bin < samples[one].bin:
        one, other = other, one
    last, first = one, one
    while other >= 0:
        sample, new = samples[last], samples[other]
        rest = new.next
        if sample.bin == new.bin:
            sample.weight += new.weight
        elif sample.next < 0 or samples[sample.next].bin > new.bin:
            new.next, sample.next = sample.next, other
            last = other
        else:
            last = sample.next
            continue
        other = rest
    return first
