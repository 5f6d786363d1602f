"""Fragments of one section at a time, as dbMiM has them, with scipy and a plain queue."""

import heapq

import numpy as np
from scipy import ndimage
from skimage.morphology import local_maxima

CROSS = ndimage.generate_binary_structure(2, 1)


def section_seeds(boundary, spacing=12):
    below = boundary < 0.5
    if below.all():
        return np.ones(boundary.shape, int)
    distances = np.rint(ndimage.distance_transform_edt(below) ** 2).astype(int)
    seeds, count = ndimage.label(local_maxima(distances, connectivity=1), CROSS)
    if count == 0:
        grid = seeds[::spacing, ::spacing]
        grid[...] = np.arange(1, grid.size + 1).reshape(grid.shape)
    return seeds


def seeded_watershed(boundary, seeds):
    """Labels grown from the seeds: lowest boundary first, of equals those met earlier."""
    labels, queue, met = seeds.copy(), [], 0
    for place in np.argwhere(seeds).tolist():
        queue.append((boundary[tuple(place)], met, place))
        met += 1
    heapq.heapify(queue)
    while queue:
        _, _, (y, x) = heapq.heappop(queue)
        for to in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            inside = 0 <= to[0] < labels.shape[0] and 0 <= to[1] < labels.shape[1]
            if inside and not labels[to]:
                labels[to] = labels[y, x]
                heapq.heappush(queue, (boundary[to], met, to))
                met += 1
    return labels


def section_boundaries(affinities):
    """1 minus the mean of a pixel's affinities along axis 1 and 2, which (3, Z, Y, X) holds at the
    pair's second voxel. Those that lead out are taken for the next; a single row has 1."""
    _, along_y, along_x = affinities.copy()
    along_y[:, 0] = along_y[:, 1] if along_y.shape[1] > 1 else 1
    along_x[:, :, 0] = along_x[:, :, 1] if along_x.shape[2] > 1 else 1
    return np.float32(1) - np.float32(0.5) * (along_y + along_x)


def fragments_by_section(affinities):
    """uint32 (Z, Y, X), numbered by first voxels."""
    labels, before = np.zeros(affinities.shape[1:], np.int64), 0
    for own, boundary in zip(labels, section_boundaries(affinities), strict=True):
        own[...] = seeded_watershed(boundary, section_seeds(boundary)) + before
        before = own.max()
    _, first, places = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.argsort(np.argsort(first)) + 1
    return ranks[places.reshape(labels.shape)].astype(np.uint32)
