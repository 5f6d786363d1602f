"""Contacts of regions while these merge: their scores, and how two of them become one."""

from typing import NamedTuple

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.region_edges import SUM_UNIT

# A contact of the regions u and v. `count` affinities (or samples of a histogram) make its score;
# `sum` is their sum in units of 1 / SUM_UNIT, or the first SAMPLE of its histogram. `label` is the
# largest index of the edges that it was joined of. `next_u` and `next_v` are the next contacts in
# the lists of u and v. A `stale` score is that of before other contacts were joined to it.
CONTACT = np.dtype(
    [
        ("sum", np.int64),
        ("u", np.int32),
        ("v", np.int32),
        ("score", np.float32),
        ("count", np.uint32),
        ("label", np.int32),
        ("next_u", np.int32),
        ("next_v", np.int32),
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
def fill_contacts(edges, first, starts, bins, weights, rule, contacts, samples):
    """Fills contacts, and the samples of their histograms, from the EDGEs of a region graph.

    Args:
        edges: EDGEs, each pair of regions once.
        first: the label of the first.
        starts, bins, weights: from `starts[e]` to `starts[e + 1]` (int32), `bins` (uint8,
            ascending) and `weights` (int32) are the histogram of label e; not for means.
        rule: a Rule.
        contacts: CONTACTs, one for each edge.
        samples: SAMPLEs, one for each of `bins`.
    """
    for place in range(len(edges)):
        edge, contact, label = edges[place], contacts[place], first + place
        contact.u, contact.v, contact.label, contact.stale = edge.u, edge.v, label, 0
        contact.sum, contact.count = edge.sum, edge.count
        if rule.quantile:
            contact.sum, contact.count = starts[label], 0
            for at in range(starts[label], starts[label + 1]):
                sample = samples[at]
                sample.bin, sample.weight, sample.next = bins[at], weights[at], at + 1
                contact.count += np.uint32(weights[at])
            samples[starts[label + 1] - 1].next = -1
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
