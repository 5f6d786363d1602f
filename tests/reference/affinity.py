"""Affinities, erosion and storage sides, voxel by voxel."""

from itertools import product

import numpy as np


def voxels(shape):
    return product(*(range(size) for size in shape))


def inside(voxel, shape):
    return all(0 <= at < size for at, size in zip(voxel, shape, strict=True))


def move(voxel, offset, sign=1):
    return tuple(at + sign * step for at, step in zip(voxel, offset, strict=True))


def affinities_by_voxel(labels, offsets, edge_side):
    values = np.zeros((len(offsets), *labels.shape), np.uint8)
    mask = np.zeros(values.shape, bool)
    for channel, offset in enumerate(offsets):
        for here in voxels(labels.shape):
            there = move(here, offset, 1 if edge_side == "source" else -1)
            if not inside(there, labels.shape):
                continue
            values[(channel, *here)] = labels[here] == labels[there] and labels[here] > 0
            mask[(channel, *here)] = labels[here] != -1 and labels[there] != -1
    return values, mask


def eroded_by_voxel(labels, radius):
    eroded = labels.copy()
    for here in voxels(labels.shape):
        box = labels[
            tuple(slice(max(0, at - r), at + r + 1) for at, r in zip(here, radius, strict=True))
        ]
        if labels[here] != -1 and len(set(box.ravel().tolist()) - {-1}) > 1:
            eroded[here] = 0
    return eroded


def pairs_inside(array, offsets, edge_side):
    """{(channel, lower end, upper end): value} of the pairs that lie inside, whatever the side."""
    found = {}
    for channel, offset in enumerate(offsets):
        for here in voxels(array.shape[1:]):
            there = move(here, offset, 1 if edge_side == "source" else -1)
            if inside(there, array.shape[1:]):
                found[(channel, *sorted((here, there)))] = array[(channel, *here)]
    return found
