"""Counting pairs of ids, whatever the ids are."""

import numpy as np
from numba import njit

# Odd multipliers with bits all over: neighbouring ids land far apart in the table.
_SPREAD_ONE = np.uint64(0x9E3779B97F4A7C15)
_SPREAD_TWO = np.uint64(0xC2B2AE3D27D4EB4F)


@njit(cache=True, nogil=True)
def count_pairs(truth, segmentation, ignored, table, used):
    """How often each pair of ids occurs at one place: (table, how many of its rows are used).

    `truth` and `segmentation` are uint64 of one length; where the truth is 0 or `ignored` nothing
    counts. `table` is uint64 (2^k, 3) with rows (truth, segmentation, count), unused where the
    count is 0. The counts are added to `table`; when more than half of its rows are used, a table
    twice as long is returned instead. Runs of one pair, which label volumes consist of, cost one
    look into the table.
    """
    at = 0
    while at < len(truth):
        one, two = truth[at], segmentation[at]
        start = at
        at += 1
        while at < len(truth) and truth[at] == one and segmentation[at] == two:
            at += 1
        if one == 0 or one == ignored:
            continue
        used += _add(table, one, two, np.uint64(at - start))
        if 2 * used > len(table):
            larger = np.zeros((2 * len(table), 3), np.uint64)
            for row in range(len(table)):
                if table[row, 2] > 0:
                    _add(larger, table[row, 0], table[row, 1], table[row, 2])
            table = larger
    return table, used


@njit(cache=True, nogil=True)
def _add(table, one, two, count):
    # Linear probing; 1 when the pair is new.
    last = np.uint64(len(table) - 1)
    # High bits of the ids, all that some ids differ in, must reach the low bits of the row.
    mixed = one * _SPREAD_ONE ^ two * _SPREAD_TWO
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _SPREAD_ONE
    row = (mixed ^ (mixed >> np.uint64(32))) & last
    while table[row, 2] > 0:
        if table[row, 0] == one and table[row, 1] == two:
            table[row, 2] += count
            return 0
        row = (row + np.uint64(1)) & last
    table[row, 0], table[row, 1], table[row, 2] = one, two, count
    return 1
