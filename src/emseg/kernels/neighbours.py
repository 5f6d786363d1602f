"""Which regions touch each region while regions merge: lists of few, hash tables of many.

All are parts of one array, `halves`, int64: a region's half of an edge is the region at the other
end * 2^32 + the edge. A list fills its room from the start; a table has a power of two of places,
and -1 in those that are empty.
"""

import numpy as np

from emseg.kernels.compiled import kernel

# A region: where its halves begin, how many have room there, how many there are, and the region's
# smallest fragment. One that went into another has room -1, and for its start the other's number.
REGION = np.dtype(
    [("start", np.int64), ("room", np.int32), ("degree", np.int32), ("name", np.int32)], align=True
)

# A longer one is a table. A list of so many is read about as fast as a place in a table is found.
LISTED = 16


@kernel
def make_regions(edges, regions):
    """Begins with a region per fragment; returns how many halves have to have room."""
    for number in range(len(regions)):
        regions[number].degree, regions[number].name = 0, number
    for edge in edges:
        regions[edge.u].degree += 1
        regions[edge.v].degree += 1
    end = 0
    for region in regions:
        region.start, region.room = end, region.degree
        if region.degree > LISTED:
            region.room = 2 * LISTED
            while 4 * region.degree > 3 * region.room:
                region.room *= 2
        end += region.room
    return end


@kernel
def fill_halves(edges, regions, halves):
    """Writes both halves of all edges where `make_regions` found room for them."""
    for region in regions:
        region.degree = 0
        if region.room > LISTED:
            halves[region.start : region.start + region.room] = -1
    for edge in range(len(edges)):
        one, two = np.int64(edges[edge].u), np.int64(edges[edge].v)
        insert(regions[one], halves, two, edge)
        insert(regions[two], halves, one, edge)


@kernel
def region_of(regions, fragment):
    """The number of the region that a fragment's region is part of by now."""
    number = np.int64(fragment)
    while regions[number].room < 0:
        above = regions[number].start
        if regions[above].room < 0:
            regions[number].start = regions[above].start  # the way is half as long next time
        number = above
    return number


@kernel
def home_of(neighbour, room):
    """The place in a table of `room` from which on a neighbour is looked for."""
    return (neighbour * 0x9E3779B1 >> 15) & (room - 1)


@kernel
def find(region, halves, neighbour):
    """Where in `halves` the region has a neighbour; in a table that lacks it, a place for it."""
    if region.room <= LISTED:
        place = region.start
        while halves[place] >> 32 != neighbour:
            place += 1
        return place
    place = home_of(neighbour, region.room)
    while halves[region.start + place] != -1 and halves[region.start + place] >> 32 != neighbour:
        place = (place + 1) & (region.room - 1)
    return region.start + place


@kernel
def insert(region, halves, neighbour, edge):
    """Adds a neighbour, for which there is room."""
    if region.room <= LISTED:
        halves[region.start + region.degree] = neighbour << 32 | edge
    else:
        halves[find(region, halves, neighbour)] = neighbour << 32 | edge
    region.degree += 1


@kernel
def remove(region, halves, neighbour):
    """Takes out a neighbour that the region has."""
    gap = find(region, halves, neighbour)
    region.degree -= 1
    if region.room <= LISTED:
        halves[gap] = halves[region.start + region.degree]
        return
    # Those behind the gap move up to it, unless they would come to lie before their home.
    gap -= region.start
    last = region.room - 1
    place = (gap + 1) & last
    while halves[region.start + place] != -1:
        half = halves[region.start + place]
        if (place - home_of(half >> 32, region.room)) & last >= (place - gap) & last:
            halves[region.start + gap] = half
            gap = place
        place = (place + 1) & last
    halves[region.start + gap] = -1


@kernel
def rename_in_list(region, halves, old, new):
    """Makes the neighbour `old` of a region with a list the neighbour `new`, or takes it out.

    The latter where there is an edge to `new` already: returns its place in `halves`, else -1.
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
    """Makes region `number` a part of `into`; returns how many of its halves go to `moved`.

    Those are all but that to `into`.
    """
    region, count = regions[number], 0
    used = region.degree if region.room <= LISTED else region.room
    for place in range(region.start, region.start + used):
        half = halves[place]
        if half != -1 and half >> 32 != into:
            moved[count] = half
            count += 1
    _give_back(halves, free, region.start, region.room)
    region.start, region.room = into, -1
    return count


@kernel
def is_full(region, more):
    """Whether a region has no room for `more` neighbours."""
    if region.room <= LISTED:
        return region.degree + more > region.room
    return 4 * (region.degree + more) > 3 * region.room


@kernel
def grow(region, halves, free, end):
    """Gives a region twice the room, before `end` or else from there on; returns the new end.

    `free` holds per power of two the first of the ranges of so much room that nobody uses; the
    others follow, each in the first place of the one before.
    """
    start, room, used = region.start, region.room, region.degree
    if room > LISTED:
        used = room
    power = _power(max(room, 2)) + 1
    if free[power] >= 0:
        region.start = free[power]
        free[power] = halves[region.start]
    else:
        region.start = end
        end += 1 << power
    region.room, region.degree = 1 << power, 0
    if region.room > LISTED:
        halves[region.start : region.start + region.room] = -1
    for place in range(start, start + used):
        half = halves[place]
        if half != -1:
            insert(region, halves, half >> 32, half & 0xFFFFFFFF)
    _give_back(halves, free, start, room)
    return end


@kernel
def room_to_grow(more):
    """How much is enough behind the end for a region to grow until it has so many neighbours."""
    return 8 * more + 64


@kernel
def pack(regions, halves, free, packed):
    """Moves all that is in use to the start of `packed`; returns the end."""
    free[:] = -1
    end = 0
    for region in regions:
        if region.room > 0:
            packed[end : end + region.room] = halves[region.start : region.start + region.room]
            region.start = end
            end += region.room
    return end


@kernel
def _give_back(halves, free, start, room):
    if room:
        power = _power(room)
        halves[start], free[power] = free[power], start


@kernel
def _power(room):
    power = 0
    while room >> (power + 1):
        power += 1
    return power
