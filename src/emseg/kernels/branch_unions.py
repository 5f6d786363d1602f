"""Unites segments of neighbouring sections; pairs are given in the order of sections."""

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.numbering import root_of, unite


@kernel
def unite_alike(parents, section, one, two, overlapping, alike):
    """Unites the overlapping pairs, and those alike whose two labels are not both united there yet.

    At each boundary of sections the overlapping pairs are united first.

    Args:
        parents: a forest: a root is its own parent and the smallest label of its tree.
        section: ascending; pair p lies across section[p] and the next.
        one, two: the labels of each pair.
        overlapping, alike: bool, per pair.
    """
    # The last section after which a label was united, + 1; 0 for none.
    united = np.zeros(len(parents), np.int32)
    begin = 0
    while begin < len(section):
        end = begin
        while end < len(section) and section[end] == section[begin]:
            end += 1
        here = section[begin] + 1
        for pair in range(begin, end):
            if overlapping[pair]:
                unite(parents, one[pair], two[pair])
                united[one[pair]] = united[two[pair]] = here
        for pair in range(begin, end):
            both = united[one[pair]] == here and united[two[pair]] == here
            if alike[pair] and not both:
                unite(parents, one[pair], two[pair])
                united[one[pair]] = united[two[pair]] = here
        begin = end


@kernel
def unite_buddies(parents, section, one, two, area):
    """Unites two trees of `parents` if each overlaps most with the other across two sections.

    Of a tree's pairs with other trees there, the largest counts, of equal ones the first.

    Args:
        parents: a forest as of `unite_alike`.
        section: ascending; pair p lies across section[p] and the next.
        one, two: the labels of each pair.
        area: pixels in which each pair overlaps.
    """
    above, below = np.full(len(parents), -1, np.int64), np.full(len(parents), -1, np.int64)
    roots = np.empty((len(section), 2), np.int32)
    begin = 0
    while begin < len(section):
        end = begin
        while end < len(section) and section[end] == section[begin]:
            roots[end, 0], roots[end, 1] = root_of(parents, one[end]), root_of(parents, two[end])
            end += 1
        for pair in range(begin, end):
            lower, upper = roots[pair]
            if lower == upper:
                continue
            if above[lower] < 0 or area[pair] > area[above[lower]]:
                above[lower] = pair
            if below[upper] < 0 or area[pair] > area[below[upper]]:
                below[upper] = pair
        for pair in range(begin, end):
            lower, upper = roots[pair]
            if lower == upper:
                continue
            if roots[above[lower], 1] == upper and roots[below[upper], 0] == lower:
                unite(parents, lower, upper)
        for pair in range(begin, end):
            above[roots[pair, 0]] = below[roots[pair, 1]] = -1
        begin = end


@kernel
def flatten(parents):
    """Makes every parent its root; `parents` is a forest as of `unite_alike`."""
    for label in range(len(parents)):
        parents[label] = parents[parents[label]]
