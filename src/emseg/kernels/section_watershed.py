"""Watershed fragments of one section, grown from the places far from boundaries."""

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.heap import FIRST, pop, push
from emseg.kernels.nearest import lower_envelope


@kernel
def flood_section(boundary, spacing, labels):
    """The number of a section's fragments, which are put in `labels`, from 1.

    Seeds are the regional maxima (four neighbours) of the distance of pixels below 0.5 to the
    nearest other one; if no pixel is below 0.5, single pixels `spacing` apart, from the first on.
    All seeds grow together: the pixel with the lowest boundary is added next, of equal ones the one
    reached first, until none is left. Fragments are numbered as their seeds are, in C order.

    Args:
        boundary: float32 (Y, X), C-contiguous, 0 to 1.
        spacing: pixels.
        labels: uint32 (Y, X).
    """
    height, width = boundary.shape
    order = np.empty(height * width, np.int32)
    labels[:] = 0
    count = _seed_maxima(_squared_distances(boundary), labels, order)
    if count == 0:
        count = seed_grid(labels, spacing)
    _grow(boundary, labels, order)
    return count


@kernel
def seed_grid(labels, spacing):
    """The number of single pixels, `spacing` apart, which become the seeds 1, 2, … in `labels`."""
    height, width = labels.shape
    count = 0
    for y in range(0, height, spacing):
        for x in range(0, width, spacing):
            count += 1
            labels[y, x] = count
    return count


@kernel
def grow_seeds(boundary, labels):
    """Grows the seeds of a section over all of it, as `flood_section` does.

    Args:
        boundary: float32 (Y, X), C-contiguous, 0 or more.
        labels: uint32 (Y, X), above 0 at seeds.
    """
    _grow(boundary, labels, np.empty(labels.size, np.int32))


@kernel
def _grow(boundary, labels, order):
    height, width = boundary.shape
    heap = np.empty(FIRST + height * width + 8, np.uint64)
    bits = boundary.view(np.uint32)
    met, end = 0, FIRST
    for y in range(height):
        for x in range(width):
            if labels[y, x] and _next_to_none(labels, y, x):
                met, end = _meet(y, x, bits, order, heap, met, end)
    while end > FIRST:
        place = order[heap[FIRST] & np.uint64(0xFFFFFFFF)]
        end -= 1
        pop(heap, end)
        y, x = place // width, place % width
        label = labels[y, x]
        if y > 0 and labels[y - 1, x] == 0:
            labels[y - 1, x] = label
            met, end = _meet(y - 1, x, bits, order, heap, met, end)
        if x > 0 and labels[y, x - 1] == 0:
            labels[y, x - 1] = label
            met, end = _meet(y, x - 1, bits, order, heap, met, end)
        if x + 1 < width and labels[y, x + 1] == 0:
            labels[y, x + 1] = label
            met, end = _meet(y, x + 1, bits, order, heap, met, end)
        if y + 1 < height and labels[y + 1, x] == 0:
            labels[y + 1, x] = label
            met, end = _meet(y + 1, x, bits, order, heap, met, end)


@kernel
def number_by_first(labels, ids, first, sizes):
    """The number of labels; renumbers them to 1, 2, … by their first voxels.

    Args:
        labels: (Z, Y, X), changed in place.
        ids: integer zeros, for each label and 0; becomes the new labels.
        first: int64, as long; becomes the place of each new label's first voxel in C order.
        sizes: int64 zeros, as long; becomes the voxels of each new label.
    """
    depth, height, width = labels.shape
    count = 0
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                old = labels[z, y, x]
                if ids[old] == 0:
                    count += 1
                    ids[old] = count
                    first[count] = (z * height + y) * width + x
                new = ids[old]
                labels[z, y, x] = new
                sizes[new] += 1
    return count


@kernel
def _next_to_none(labels, y, x):
    """Whether one of the four neighbours has no label; only then must a pixel be queued."""
    height, width = labels.shape
    above, below = labels[max(y - 1, 0), x], labels[min(y + 1, height - 1), x]
    left, right = labels[y, max(x - 1, 0)], labels[y, min(x + 1, width - 1)]
    return above == 0 or below == 0 or left == 0 or right == 0


@kernel
def _meet(y, x, bits, order, heap, met, end):
    # Boundaries are not negative, so their bits have the same order.
    order[met] = y * bits.shape[1] + x
    push(heap, end, np.uint64(bits[y, x]) << np.uint64(32) | np.uint64(met))
    return met + 1, end + 1


@kernel
def _squared_distances(boundary):
    """float64 (Y, X): pixels below 0.5 to the nearest other one, squared; infinite if none is."""
    height, width = boundary.shape
    squares = np.empty((height, width))
    for x in range(width):
        steps = np.inf
        for y in range(height):
            steps = steps + 1.0 if boundary[y, x] < 0.5 else 0.0
            squares[y, x] = steps
        steps = np.inf
        for y in range(height - 1, -1, -1):
            steps = steps + 1.0 if boundary[y, x] < 0.5 else 0.0
            squares[y, x] = min(squares[y, x], steps) ** 2
    vertex, value, start = np.empty(width, np.int64), np.empty(width), np.empty(width)
    for y in range(height):
        lower_envelope(squares[y], 1.0, vertex, value, start)
    return squares


@kernel
def _seed_maxima(heights, labels, stack):
    """Labels the plateaus of `heights` above 0 without higher neighbours; returns their number."""
    rows, columns = heights.shape
    seen = np.zeros((rows, columns), np.bool_)
    count = 0
    for y in range(rows):
        for x in range(columns):
            height = heights[y, x]
            if height == 0 or seen[y, x]:
                continue
            seen[y, x] = True
            stack[0] = y * columns + x
            size, done, highest = 1, 0, True
            while done < size:
                at_y, at_x = stack[done] // columns, stack[done] % columns
                done += 1
                for dy, dx in ((-1, 0), (0, -1), (0, 1), (1, 0)):
                    to_y, to_x = at_y + dy, at_x + dx
                    if to_y < 0 or to_y >= rows or to_x < 0 or to_x >= columns:
                        continue
                    if heights[to_y, to_x] > height:
                        highest = False
                    elif heights[to_y, to_x] == height and not seen[to_y, to_x]:
                        seen[to_y, to_x] = True
                        stack[size] = to_y * columns + to_x
                        size += 1
            if highest:
                count += 1
                for place in stack[:size]:
                    labels[place // columns, place % columns] = count
    return count
