"""Joins small segments to a neighbour."""

from emseg.kernels.compiled import kernel


@kernel
def join_small(contacts, order, sizes, below, joined):
    """Joins the two segments of each contact, in `order`, if one has fewer than `below` voxels.

    `contacts` is an array of EDGE between segments. `sizes` (int64 voxels) and `joined` (int32, at
    first each segment itself) have an entry per label. In the end `joined` holds the smallest
    segment of each group, and `sizes` the group's voxels at that segment.
    """
    for contact in order:
        one, two = contacts[contact].u, contacts[contact].v
        while joined[one] != one:
            joined[one] = joined[joined[one]]
            one = joined[one]
        while joined[two] != two:
            joined[two] = joined[joined[two]]
            two = joined[two]
        if one == two or (sizes[one] >= below and sizes[two] >= below):
            continue
        small, large = min(one, two), max(one, two)
        joined[large] = small
        sizes[small] += sizes[large]
    for label in range(len(joined)):
        joined[label] = joined[joined[label]]
