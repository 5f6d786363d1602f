"""Labels section by section (planes along axis 0): their areas, and how neighbours overlap."""

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.pair_keys import place_of, twice_as_long
from emseg.kernels.region_edges import SUM_UNIT

# Label `one` in `section` lies under label `two` of the next section in `area` pixels; `sum` is the
# sum of the affinities between the two there, in units of 1 / SUM_UNIT.
OVERLAP = np.dtype(
    [
        ("section", np.int32),
        ("one", np.int32),
        ("two", np.int32),
        ("area", np.int32),
        ("sum", np.int64),
    ]
)


@kernel
def find_extents(labels, start, first, last):
    """Sets `first` and `last` to the sections in which each label is found.

    Args:
        labels: uint32 (Z, Y, X); 0 is no label.
        start: the number of their first section.
        first, last: int32 per label; before the first call a number greater than any section's,
            and -1.
    """
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for label in labels[z, y]:
                if label:
                    first[label] = min(first[label], start + z)
                    last[label] = start + z


@kernel
def count_pixels(labels, start, first, starts, pixels):
    """Adds each label's pixels of section z to pixels[starts[label] + z - first[label]].

    Args:
        labels: uint32 (Z, Y, X); 0 is no label.
        start: the number of their first section.
        first: per label its first section, of `find_extents`.
        starts: per label the place of that section in `pixels`.
        pixels: integers, for all sections of the first label, then of the next, and so on.
    """
    for z in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for label in labels[z, y]:
                if label:
                    pixels[starts[label] + start + z - first[label]] += 1


@kernel
def add_pixels(ids, own_first, own_starts, own_pixels, first, starts, pixels):
    """Adds the pixels of each label, as of `count_pixels`, to those of ids[label].

    Args:
        ids: the new label of each label.
        own_first, own_starts, own_pixels: those of the labels; `own_starts` has one entry more.
        first, starts, pixels: those of the new labels.
    """
    for label in range(1, len(ids)):
        new = ids[label]
        at = starts[new] + own_first[label] - first[new]
        for place in range(own_starts[label], own_starts[label + 1]):
            pixels[at + place - own_starts[label]] += own_pixels[place]


@kernel
def find_overlaps(below, above, affinities, at, levels, section):
    """An array of OVERLAP, a row for each pair of different labels that lie on each other.

    Args:
        below, above: labels uint32 (Y, X) of a section and of the next; 0 is none.
        affinities: at (y + at[1], x + at[2]) that between (y, x) of the two: float32 or indices of
            `levels`.
        levels: affinities, float32; None if `affinities` are not indices.
        section: the number of the section below.
    """
    height, width = below.shape
    keys, ids = np.zeros(1024, np.uint64), np.empty(1024, np.int32)
    rows = np.empty(1024, OVERLAP)
    n = 0
    for y in range(height):
        # Enlarge before the inner loop: one that makes arrays counts references at every step.
        while n + width > len(rows):
            rows = np.concatenate((rows, np.empty(len(rows), OVERLAP)))
        while 2 * (n + width) > len(keys):
            keys, ids = twice_as_long(keys, ids)
        values = affinities[y + at[1], at[2] :]
        n = _add_line(below[y], above[y], values, levels, section, keys, ids, rows, n)
    return rows[:n].copy()


@kernel
def _add_line(below, above, values, levels, section, keys, ids, rows, n):
    row, known = np.int64(0), np.uint64(0)
    for x in range(len(below)):
        one, two = below[x], above[x]
        if one == two or one == 0 or two == 0:
            continue
        key = np.uint64(one) << np.uint64(32) | np.uint64(two)
        if key != known:
            place = place_of(keys, key)
            if keys[place] == 0:
                keys[place], ids[place] = key, n
                new = rows[n]
                new.section, new.one, new.two, new.area, new.sum = section, one, two, 0, 0
                n += 1
            row, known = np.int64(ids[place]), key
        affinity = values[x] if levels is None else levels[values[x]]
        rows[row].area += 1
        rows[row].sum += np.int64(np.float64(affinity) * SUM_UNIT + 0.5)
    return n


@kernel
def overlaps_at_ends(rows, ids, first, last, selected):
    """The number of overlaps at an end of a label, which are put in `selected`.

    Left out are rows of equal labels, and those where neither the label below ends nor the label
    above begins.

    Args:
        rows, selected: of OVERLAP, `selected` as long as `rows`.
        ids: the new label of each label.
        first, last: per new label its first and its last section.
    """
    count = 0
    for row in rows:
        one, two = ids[row.one], ids[row.two]
        if one != two and (last[one] == row.section or first[two] == row.section + 1):
            new = selected[count]
            new.section, new.one, new.two = row.section, one, two
            new.area, new.sum = row.area, row.sum
            count += 1
    return count
