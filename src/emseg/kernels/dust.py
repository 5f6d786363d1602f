"""Joins small segments to a neighbour."""

from emseg.kernels.compiled import kernel


@kernel
def join_small(contacts, order, sizes, below, joined):
    """Joins the two segments of each contact, in `order`, if one has fewer than `below` voxels.

    Args:
        contacts: EDGEs between segments.
        order: the places of the contacts to look at.
        sizes: int64 voxels per label; becomes the group's voxels at its smallest segment.
        below: voxels.
        joined: int32 per label, at first the label itself; becomes its group's smallest segment.
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
