"""How deep inside an object each voxel lies, by affinities: mean affinity and capped distance."""

import numpy as np

from emseg.kernels.compiled import kernel


@kernel
def mean_affinities(edges, at, faces, means):
    """Fills `means` with the mean of each voxel's affinities with its neighbours in the volume.

    Args:
        edges: per axis, float32, the affinity of the region's voxel v with the one before it, at
            v + `at[a]`; up to the voxel behind the region, unless the volume ends there.
        at: int64 (3, 3), see `edges`.
        faces: (3, 2), per axis whether the volume begins and ends with the region.
        means: float32 (Z, Y, X) of the region; 0.5 in a volume of one voxel.
    """
    depth, height, width = means.shape
    # In float64 sums are exact, so that voxels with equal affinities tie in whatever order.
    sums = np.empty(width)
    for z in range(depth):
        for y in range(height):
            count = 2
            sums[:] = 0
            for axis in range(2):
                place, size = (z, depth) if axis == 0 else (y, height)
                for step in range(2):
                    if faces[axis, step] and place == (0 if step == 0 else size - 1):
                        continue
                    to_z = z + at[axis, 0] + (step if axis == 0 else 0)
                    to_y = y + at[axis, 1] + (step if axis == 1 else 0)
                    line = edges[axis][to_z, to_y, at[axis, 2] : at[axis, 2] + width]
                    for x in range(width):
                        sums[x] += line[x]
                    count += 1
            line = edges[2][z + at[2, 0], y + at[2, 1]]
            _end_row(line, at[2, 2], faces[2], count, sums, means[z, y])


@kernel
def _end_row(line, at, faces, count, sums, means):
    """Adds the affinities along the row, and divides by their number; `count` is that within it."""
    width = len(means)
    for x in range(width):
        before = x > 0 or not faces[0]
        behind = x + 1 < width or not faces[1]
        total, number = sums[x], count
        if before:
            total += line[x + at]
        else:
            number -= 1
        if behind:
            total += line[x + 1 + at]
        else:
            number -= 1
        means[x] = total / number if number > 0 else 0.5


@kernel
def capped_distances(inside, spacing, cap, distances):
    """Fills `distances` with that of each voxel to the nearest one outside, at most `cap`.

    What lies beyond the array does not count. A value is the minimum of the same numbers wherever
    an array that holds all voxels within the cap begins, so that blocks agree to the bit.

    Args:
        inside: bool (Z, Y, X).
        spacing: float32 (3,), lengths of a voxel, in the unit of `cap`.
        distances: float32 (Z, Y, X).
    """
    depth, height, width = inside.shape
    limit = np.float32(cap * cap)
    planes = np.empty(inside.shape, np.float32)
    rows = np.empty((height, width), np.float32)
    for z in range(depth):
        for y in range(height):
            _along_row(inside[z, y], spacing[2], limit, rows[y])
        for y in range(height):
            planes[z, y] = limit
            reach = np.int64(cap / spacing[1])
            for to in range(max(y - reach, 0), min(y + reach + 1, height)):
                _take_lower(rows[to], np.float32((to - y) * spacing[1]), planes[z, y])
    reach = np.int64(cap / spacing[0])
    for z in range(depth):
        for y in range(height):
            row = distances[z, y]
            row[:] = limit
            for to in range(max(z - reach, 0), min(z + reach + 1, depth)):
                _take_lower(planes[to, y], np.float32((to - z) * spacing[0]), row)
            for x in range(width):
                row[x] = np.sqrt(row[x])


@kernel
def _along_row(inside, length, limit, squares):
    far = np.int64(np.sqrt(limit) / length) + 1
    steps = far
    for x in range(len(inside)):
        steps = min(steps + 1, far) if inside[x] else 0
        squares[x] = steps
    steps = far
    for x in range(len(inside) - 1, -1, -1):
        steps = min(steps + 1, far) if inside[x] else 0
        distance = np.float32(min(np.float32(steps), squares[x]) * length)
        squares[x] = min(distance * distance, limit)


@kernel
def _take_lower(squares, away, lowest):
    more = away * away
    for x in range(len(lowest)):
        lowest[x] = min(lowest[x], squares[x] + more)
