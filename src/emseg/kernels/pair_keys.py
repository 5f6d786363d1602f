"""A hash table that numbers pairs of labels."""

import numpy as np

from emseg.kernels.compiled import kernel


@kernel
def place_of(keys, key):
    """The place of `key` in `keys`, or the free place (0) where it belongs.

    `keys` is uint64, 2^k entries, not all of them in use; a key is both labels, not 0, of 32 bits
    each.
    """
    # Linear probing; the keys' high bits must change the low bits of the place.
    last = len(keys) - 1
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(last))
    while keys[place] != 0 and keys[place] != key:
        place = (place + 1) & last
    return place


@kernel
def twice_as_long(keys, ids):
    """The table with twice the length: (keys, ids), where ids are int32 at their keys' places."""
    new_keys, new_ids = np.zeros(2 * len(keys), np.uint64), np.empty(2 * len(keys), np.int32)
    for old in range(len(keys)):
        if keys[old]:
            place = place_of(new_keys, keys[old])
            new_keys[place], new_ids[place] = keys[old], ids[old]
    return new_keys, new_ids
