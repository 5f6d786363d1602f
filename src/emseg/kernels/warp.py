"""Images and labels read at displaced places: the one gather behind every smooth deformation."""

import numpy as np
from numba import njit

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

    `image` (C, Z, Y, X) is uint8 or float32 and interpolated bilinearly, `labels` (Z, Y, X) int32
    are those of the nearest pixel. Voxel (z, y, x) of the result lies in section `first` + z, at
    M (y, x, 1) + field[:, y, x] in pixels, M being `matrices[z]` (2, 3), float64. `matrices` has
    one entry or one a section, and so has `field` (F, 2, Y, X), float32; F = 0: none. What lies
    outside the arrays is 0 in the image and -1 in the labels.
    """
    warped = np.empty((len(image), *size), image.dtype)
    moved = np.empty(size, np.int32)
    arrays = (np.ascontiguousarray(image), np.ascontiguousarray(labels))
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
    """As `warp_sections`, but a voxel is read from between sections, trilinearly.

    It lies at M (z, y, x, 1) + field[:, y, x] in voxels, M being `matrix` (3, 4), float64; `field`
    is (F, 3, Y, X), float32, with none, one, or one entry a section.
    """
    warped = np.empty((len(image), *size), image.dtype)
    moved = np.empty(size, np.int32)
    arrays = (np.ascontiguousarray(image), np.ascontiguousarray(labels))
    _warp_volume(*arrays, matrix, field, _half(image), warped, moved)
    return warped, moved


def _half(image: np.ndarray) -> np.float32:
    """What, added before fractions are cut off, rounds."""
    return np.float32(0.5 if image.dtype == np.uint8 else 0.0)


@njit(cache=True, nogil=True)
def _warp_sections(image, labels, matrices, field, first, half, warped, moved):
    channels, _, height, width = image.shape
    depth, rows, columns = moved.shape
    sy, sx = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for z in range(depth):
        m = matrices[min(z, len(matrices) - 1)]
        for y in range(rows):
            # Row by row: the compiler makes vector instructions of what stands alone.
            for x in range(columns):
                sy[x] = m[0, 0] * y + m[0, 1] * x + m[0, 2]
                sx[x] = m[1, 0] * y + m[1, 1] * x + m[1, 2]
            if len(field):
                f = min(z, len(field) - 1)
                for x in range(columns):
                    sy[x] += field[f, 0, y, x]
                    sx[x] += field[f, 1, y, x]
            _nearest(labels[first + z], sy, sx, moved[z, y])
            for c in range(channels):
                _bilinear(image[c, first + z], sy, sx, half, warped[c, z, y])


@njit(cache=True, nogil=True)
def _nearest(section, sy, sx, out):
    height, width = section.shape
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for x in range(len(out)):
        if (sy[x] >= 0) & (sy[x] <= bottom) & (sx[x] >= 0) & (sx[x] <= right):
            # Unsigned, or each index would be asked whether it counts from the end.
            out[x] = section[np.uint32(sy[x] + np.float32(0.5)), np.uint32(sx[x] + np.float32(0.5))]
        else:
            out[x] = UNSEEN


@njit(cache=True, nogil=True)
def _bilinear(section, sy, sx, half, out):
    height, width = section.shape
    bottom, right = np.float32(height - 1), np.float32(width - 1)
    for x in range(len(out)):
        if (sy[x] >= 0) & (sy[x] <= bottom) & (sx[x] >= 0) & (sx[x] <= right):
            out[x] = _between(section, sy[x], sx[x]) + half
        else:
            out[x] = 0


@njit(inline="always")
def _between(section, sy, sx):
    up, left = np.uint32(sy), np.uint32(sx)
    wy, wx = sy - np.float32(up), sx - np.float32(left)
    down = min(up + np.uint32(1), np.uint32(len(section) - 1))
    right = min(left + np.uint32(1), np.uint32(section.shape[1] - 1))
    above, below = np.float32(section[up, left]), np.float32(section[down, left])
    above += wx * (np.float32(section[up, right]) - above)
    below += wx * (np.float32(section[down, right]) - below)
    return above + wy * (below - above)


@njit(cache=True, nogil=True)
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
