"""Counting pairs of ids of any size."""

import numpy as np

from emseg.kernels.compiled import kernel

# Odd multipliers with well-mixed bits: neighbouring ids end up far apart in the table.
_SPREAD_ONE = np.uint64(0x9E3779B97F4A7C15)
_SPREAD_TWO = np.uint64(0xC2B2AE3D27D4EB4F)


@kernel
def count_pairs(truth, segmentation, ignored, ignores, table, used):
    """Counts how often each pair of ids occurs at the same place: (table, number of used rows).

    A run of one pair, common in label volumes, needs a single look-up.

    Args:
        truth, segmentation: uint32 or uint64 (also one of each), of one length.
        ignored: uint64; nothing counts where the truth is this id, if `ignores`.
        table: uint64 (2^k, 3), rows (truth, segmentation, count), unused if the count is 0; counts
            are added to it.
        used: how many rows of the table are used.

    Returns:
        The table, or one twice as long when more than half of its rows are used.
    """
    at = 0
    while at < len(truth):
        one, two = truth[at], segmentation[at]
        start = at
        at += 1
        while at < len(truth) and truth[at] == one and segmentation[at] == two:
            at += 1
        if ignores and np.uint64(one) == ignored:
            continue
        used += _add(table, np.uint64(one), np.uint64(two), np.uint64(at - start))
        if 2 * used > len(table):
            larger = np.zeros((2 * len(table), 3), np.uint64)
            for row in range(len(table)):
                if table[row, 2] > 0:
                    _add(larger, table[row, 0], table[row, 1], table[row, 2])
            table = larger
    return table, used


@kernel
def add_equal_pairs(keys, counts, second_bits, place_bits):
    """Adds up the counts of equal pairs: (first, second, sums), int64, in the order of the keys.

    Args:
        keys: int64, sorted; from its highest bits a key holds a pair's first number, its second
            and the place of its count.
        counts: int64.
        second_bits, place_bits: how many bits the second number and the place have.
    """
    pairs = 0
    for at in range(len(keys)):
        pairs += at == 0 or keys[at] >> place_bits != keys[at - 1] >> place_bits
    first, second, sums = (
        np.empty(pairs, np.int64),
        np.empty(pairs, np.int64),
        np.zeros(pairs, np.int64),
    )
    at_pair, before = -1, np.int64(-1)
    for at in range(len(keys)):
        pair = keys[at] >> place_bits
        if pair != before:
            before = pair
            at_pair += 1
            first[at_pair] = pair >> second_bits
            second[at_pair] = pair & ((np.int64(1) << second_bits) - 1)
        sums[at_pair] += counts[keys[at] & ((np.int64(1) << place_bits) - 1)]
    return first, second, sums


@kernel
def _add(table, one, two, count):
    # Linear probing; 1 when the pair is new.
    last = np.uint64(len(table) - 1)
    # Some ids differ only in their high bits: these must change the low bits of the row.
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
