"""Which regions touch each region while regions merge: short lists, or hash tables if longer.

All are parts of one array, `halves`, int64: a region's half of an edge is the region at the other
end * 2^32 + the edge. A list is filled from its start; a table has a power of two of places, and
-1 in those that are empty.
"""

import numpy as np

from emseg.kernels.compiled import kernel

# A region: the place of its first half, how many fit there, how many there are, and the region's
# smallest fragment. One merged into another has capacity -1, and as start the other's number.
REGION = np.dtype(
    [("start", "i8"), ("capacity", "i4"), ("degree", "i4"), ("name", "i4")], align=True
)

# The longest list; longer ones are tables. A list of this length is about as fast as a table.
LISTED = 16


@kernel
def make_regions(edges, regions):
    """Makes a region per fragment; returns the length that `halves` must have."""
    for number in range(len(regions)):
        regions[number].degree, regions[number].name = 0, number
    for edge in edges:
        regions[edge.u].degree += 1
        regions[edge.v].degree += 1
    end = 0
    for region in regions:
        region.start, region.capacity = end, region.degree
        if region.degree > LISTED:
            region.capacity = 2 * LISTED
            while 4 * region.degree > 3 * region.capacity:
                region.capacity *= 2
        end += region.capacity
    return end


@kernel
def fill_halves(edges, regions, halves):
    """Writes both halves of all edges to the places that `make_regions` gave them."""
    for region in regions:
        region.degree = 0
        if region.capacity > LISTED:
            halves[region.start : region.start + region.capacity] = -1
    for edge in range(len(edges)):
        one, two = np.int64(edges[edge].u), np.int64(edges[edge].v)
        insert(regions[one], halves, two, edge)
        insert(regions[two], halves, one, edge)


@kernel
def region_of(regions, fragment):
    """The number of the region that now contains the fragment."""
    number = np.int64(fragment)
    while regions[number].capacity < 0:
        above = regions[number].start
        if regions[above].capacity < 0:
            regions[number].start = regions[above].start  # halves the path for next time
        number = above
    return number


@kernel
def home_of(neighbour, capacity):
    """The place in a table of `capacity` where the search for a neighbour starts."""
    return (neighbour * 0x9E3779B1 >> 15) & (capacity - 1)


@kernel
def find(region, halves, neighbour):
    """The place of a region's neighbour in `halves`; if a table lacks it, a free place for it."""
    if region.capacity <= LISTED:
        place = region.start
        while halves[place] >> 32 != neighbour:
            place += 1
        return place
    place = home_of(neighbour, region.capacity)
    while halves[region.start + place] != -1 and halves[region.start + place] >> 32 != neighbour:
        place = (place + 1) & (region.capacity - 1)
    return region.start + place


@kernel
def insert(region, halves, neighbour, edge):
    """Adds a neighbour; the region must not be full."""
    if region.capacity <= LISTED:
        halves[region.start + region.degree] = neighbour << 32 | edge
    else:
        halves[find(region, halves, neighbour)] = neighbour << 32 | edge
    region.degree += 1


@kernel
def remove(region, halves, neighbour):
    """Removes a neighbour that the region has."""
    gap = find(region, halves, neighbour)
    region.degree -= 1
    if region.capacity <= LISTED:
        halves[gap] = halves[region.start + region.degree]
        return
    # Entries after the gap move into it, unless that is before the start of their search.
    gap -= region.start
    last = region.capacity - 1
    place = (gap + 1) & last
    while halves[region.start + place] != -1:
        half = halves[region.start + place]
        if (place - home_of(half >> 32, region.capacity)) & last >= (place - gap) & last:
            halves[region.start + gap] = half
            gap = place
        place = (place + 1) & last
    halves[region.start + gap] = -1


@kernel
def rename_in_list(region, halves, old, new):
    """Replaces the neighbour `old` of a region with a list by `new`, and returns -1.

    If there is an edge to `new` already, removes `old` and returns that edge's place in `halves`.
    """
    to_old, to_new = -1, -1
    for place in range(region.start, region.start + region.degree):
        neighbour = halves[place] >> 32
        to_old = place if neighbour == old else to_old
        to_new = place if neighbour == new else to_new
    if to_new < 0:
        halves[to_old] = new << 32 | halves[to_old] & 0xFFFFFFFF
        return -1
    region.degree -= 1
    last = region.start + region.degree
    halves[to_old] = halves[last]
    return to_old if last == to_new else to_new


@kernel
def rename_in_table(region, halves, old, new, edge):
    """What `rename_in_list` does, for a region with a table; `edge` is the one to `old`."""
    remove(region, halves, old)
    place = find(region, halves, new)
    if halves[place] != -1:
        return place
    halves[place] = new << 32 | edge
    region.degree += 1
    return -1


@kernel
def move_out(regions, number, into, halves, free, moved):
    """Makes region `number` a part of `into`; returns how many of its halves it put in `moved`.

    These are all but the one to `into`.
    """
    region, count = regions[number], 0
    used = region.degree if region.capacity <= LISTED else region.capacity
    for place in range(region.start, region.start + used):
        half = halves[place]
        if half != -1 and half >> 32 != into:
            moved[count] = half
            count += 1
    _release(halves, free, region.start, region.capacity)
    region.start, region.capacity = into, -1
    return count


@kernel
def is_full(region, more):
    """Whether `more` neighbours do not fit into a region."""
    if region.capacity <= LISTED:
        return region.degree + more > region.capacity
    return 4 * (region.degree + more) > 3 * region.capacity


@kernel
def grow(region, halves, free, end):
    """Doubles a region's capacity, in a free range or else at `end`; returns the new end.

    `free` holds, per power of two, the start of an unused range of that length; the first entry of
    each such range is the start of the next one.
    """
    start, capacity, used = region.start, region.capacity, region.degree
    if capacity > LISTED:
        used = capacity
    power = _power(max(capacity, 2)) + 1
    if free[power] >= 0:
        region.start = free[power]
        free[power] = halves[region.start]
    else:
        region.start = end
        end += 1 << power
    region.capacity, region.degree = 1 << power, 0
    if region.capacity > LISTED:
        halves[region.start : region.start + region.capacity] = -1
    for place in range(start, start + used):
        half = halves[place]
        if half != -1:
            insert(region, halves, half >> 32, half & 0xFFFFFFFF)
    _release(halves, free, start, capacity)
    return end


@kernel
def halves_needed(more):
    """How many free halves suffice for a region to grow to this number of neighbours."""
    return 8 * more + 64


@kernel
def pack(regions, halves, free, packed):
    """Moves all that is in use to the start of `packed`; returns the end."""
    free[:] = -1
    end = 0
    for region in regions:
        if region.capacity > 0:
            packed[end : end + region.capacity] = halves[
                region.start : region.start + region.capacity
            ]
            region.start = end
            end += region.capacity
    return end


@kernel
def _release(halves, free, start, capacity):
    if capacity:
        power = _power(capacity)
        halves[start], free[power] = free[power], start


@kernel
def _power(capacity):
    power = 0
    while capacity >> (power + 1):
        power += 1
    return power
