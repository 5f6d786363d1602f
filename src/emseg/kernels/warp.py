"""Images and labels read at displaced positions, for every smooth deformation."""

import numpy as np

from emseg.kernels.compiled import kernel
from emseg.kernels.copies import owned

UNSEEN = -1


def warp_sections(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    matrices: np.ndarray,
    field: np.ndarray,
    first: int,
    size: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Image (C, *size) and labels (*size), each section read from one section of the arrays.

    Voxel (z, y, x) is read in section `first` + z, at M (y, x, 1) + field[:, y, x], with the M and
    the field of its section. Positions outside the arrays give 0 in the image and -1 in the labels.

    Args:
        image: (C, Z, Y, X), uint8 or float32, interpolated bilinearly.
        labels: int32 (Z, Y, X), taken from the nearest pixel.
        matrices: M, float64 (2, 3), in pixels; one, or one per section of the result.
        field: float32 (F, 2, Y, X), in pixels; none, one, or one per section of the result.
        first: the section of the arrays for the first one of the result.
        size: voxels (z, y, x) of the result.
    """
    warped = np.empty((len(image), *size), image.dtype)
    moved = np.empty(size, np.int32)
    arrays = owned(image), owned(labels)  # numba would compile again for any others
    _warp_sections(*arrays, matrices, field, first, _half(image), warped, moved)
    return warped, moved


def warp_volume(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    matrix: np.ndarray,
    field: np.ndarray,
    size: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """As `warp_sections`, but trilinear: positions may lie between sections.

    A voxel is read at M (z, y, x, 1) + field[:, y, x], with the field of its section.

    Args:
        image, labels, size: as for `warp_sections`.
        matrix: M, float64 (3, 4), in voxels.
        field: float32 (F, 3, Y, X), in voxels; none, one, or one per section of the result.
    """
    warped = np.empty((len(image), *size), image.dtype)
    moved = np.empty(size, np.int32)
    arrays = owned(image), owned(labels)  # numba would compile again for any others
    _warp_volume(*arrays, matrix, field, _half(image), warped, moved)
    return warped, moved


def spline_field(rows: np.ndarray, points: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Fields (F, C, Y, X) between control points, float32.

    Args:
        rows: float32 (Y, J): the weight of point j in row y.
        points: float32 (F, C, J, K): the values at the control points.
        columns: float32 (X, K): the weight of point k in column x.
    """
    field = np.zeros((*points.shape[:2], len(rows), len(columns)), np.float32)
    _spline_field(rows, points, np.ascontiguousarray(columns.T), field)
    return field


@kernel
def _spline_field(rows, points, columns, field):
    across = np.empty(columns.shape[1], np.float32)
    for f in range(len(field)):
        for c in range(field.shape[1]):
            for j in range(rows.shape[1]):
                across[:] = 0
                for k in range(len(columns)):
                    weight, column = points[f, c, j, k], columns[k]
                    for x in range(len(across)):
                        across[x] += weight * column[x]
                for y in range(len(rows)):
                    weight, row = rows[y, j], field[f, c, y]
                    if weight != 0:
                        for x in range(len(across)):
                            row[x] += weight * across[x]


def _half(image: np.ndarray) -> np.float32:
    """What to add so that the cast to the image's dtype rounds."""
    return np.float32(0.5 if image.dtype == np.uint8 else 0.0)


@kernel
def _warp_sections(image, labels, matrices, field, first, half, warped, moved):
    channels, _, height, width = image.shape
    depth, rows, columns = moved.shape
    sy, sx = np.empty(columns, np.float32), np.empty(columns, np.float32)
    corner = np.empty(columns, np.int32)
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for z in range(depth):
        m = matrices[min(z, len(matrices) - 1)]
        section = labels[first + z]
        for y in range(rows):
            # One loop per row for each step: the compiler can then use vector instructions.
            for x in range(columns):
                sy[x] = m[0, 0] * y + m[0, 1] * x + m[0, 2]
                sx[x] = m[1, 0] * y + m[1, 1] * x + m[1, 2]
            if len(field):
                f = min(z, len(field) - 1)
                for x in range(columns):
                    sy[x] += field[f, 0, y, x]
                    sx[x] += field[f, 1, y, x]
            inside = True
            for x in range(columns):
                inside &= (sy[x] >= 0) & (sy[x] < bottom) & (sx[x] >= 0) & (sx[x] < right)
            if inside:
                _split(sy, sx, width, corner)
                _nearest(section.reshape(-1), width, corner, sy, sx, moved[z, y])
                for c in range(channels):
                    flat = image[c, first + z].reshape(-1)
                    _bilinear(flat, width, corner, sy, sx, half, warped[c, z, y])
            else:
                _nearest_or_unseen(section, sy, sx, moved[z, y])
                for c in range(channels):
                    _bilinear_or_unseen(image[c, first + z], sy, sx, half, warped[c, z, y])


@kernel
def _split(sy, sx, width, corner):
    """Splits positions into the pixel above and left of them (`corner`) and the fractions."""
    for x in range(len(corner)):
        up, left = np.int32(sy[x]), np.int32(sx[x])
        corner[x] = up * np.int32(width) + left
        sy[x] -= np.float32(up)
        sx[x] -= np.float32(left)


@kernel
def _nearest(flat, width, corner, wy, wx, out):
    for x in range(len(out)):
        down, right = wy[x] >= np.float32(0.5), wx[x] >= np.float32(0.5)
        # Unsigned, which saves numba's check for negative indices.
        out[x] = flat[np.uint32(corner[x] + np.int32(down) * np.int32(width) + np.int32(right))]


@kernel
def _bilinear(flat, width, corner, wy, wx, half, out):
    one, row = np.uint32(1), np.uint32(width)
    for x in range(len(out)):
        at = np.uint32(corner[x])
        above, below = np.float32(flat[at]), np.float32(flat[at + row])
        above += wx[x] * (np.float32(flat[at + one]) - above)
        below += wx[x] * (np.float32(flat[at + row + one]) - below)
        out[x] = above + wy[x] * (below - above) + half


@kernel
def _nearest_or_unseen(section, sy, sx, out):
    height, width = section.shape
    for x in range(len(out)):
        if (sy[x] >= 0) & (sy[x] <= height - 1) & (sx[x] >= 0) & (sx[x] <= width - 1):
            out[x] = section[int(sy[x] + np.float32(0.5)), int(sx[x] + np.float32(0.5))]
        else:
            out[x] = UNSEEN


@kernel
def _bilinear_or_unseen(section, sy, sx, half, out):
    height, width = section.shape
    for x in range(len(out)):
        if (sy[x] >= 0) & (sy[x] <= height - 1) & (sx[x] >= 0) & (sx[x] <= width - 1):
            out[x] = _between(section, sy[x], sx[x]) + half
        else:
            out[x] = 0


@kernel(inline="always")
def _between(section, sy, sx):
    up, left = int(sy), int(sx)
    wy, wx = sy - np.float32(up), sx - np.float32(left)
    down, right = min(up + 1, section.shape[0] - 1), min(left + 1, section.shape[1] - 1)
    above, below = np.float32(section[up, left]), np.float32(section[down, left])
    above += wx * (np.float32(section[up, right]) - above)
    below += wx * (np.float32(section[down, right]) - below)
    return above + wy * (below - above)


@kernel
def _warp_volume(image, labels, matrix, field, half, warped, moved):
    channels, sections, height, width = image.shape
    depth, rows, columns = moved.shape
    m = matrix
    for z in range(depth):
        for y in range(rows):
            for x in range(columns):
                sz = np.float32(m[0, 0] * z + m[0, 1] * y + m[0, 2] * x + m[0, 3])
                sy = np.float32(m[1, 0] * z + m[1, 1] * y + m[1, 2] * x + m[1, 3])
                sx = np.float32(m[2, 0] * z + m[2, 1] * y + m[2, 2] * x + m[2, 3])
                if len(field):
                    f = min(z, len(field) - 1)
                    sz += field[f, 0, y, x]
                    sy += field[f, 1, y, x]
                    sx += field[f, 2, y, x]
                inside = (sz >= 0) & (sz <= sections - 1)
                inside &= (sy >= 0) & (sy <= height - 1) & (sx >= 0) & (sx <= width - 1)
                if not inside:
                    moved[z, y, x] = UNSEEN
                    warped[:, z, y, x] = 0
                    continue
                moved[z, y, x] = labels[int(sz + 0.5), int(sy + 0.5), int(sx + 0.5)]
                near = np.uint32(sz)
                wz, far = sz - np.float32(near), min(near + 1, sections - 1)
                for c in range(channels):
                    front = _between(image[c, near], sy, sx)
                    back = _between(image[c, far], sy, sx)
                    warped[c, z, y, x] = front + wz * (back - front) + half
