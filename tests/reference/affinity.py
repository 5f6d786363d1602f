"""Affinities, erosion and storage sides, voxel by voxel."""

from itertools import product

import numpy as np
from scipy import ndimage


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


def eroded_by_voxel(labels, radius, at_background=True):
    no_ids = {-1} if at_background else {-1, 0}
    eroded = labels.copy()
    for here in voxels(labels.shape):
        box = labels[
            tuple(slice(max(0, at - r), at + r + 1) for at, r in zip(here, radius, strict=True))
        ]
        if labels[here] != -1 and len(set(box.ravel().tolist()) - no_ids) > 1:
            eroded[here] = 0
    return eroded


def widened_as_by_dbmim(labels):
    """dbMiM's border widening, of labels from 0: in each section the largest label of 3x3 against
    the smallest, in whose place background stands for more than any label."""
    largest = ndimage.maximum_filter(labels, size=(1, 3, 3), mode="nearest")
    no_background = np.where(labels == 0, labels.max() + 1, labels)
    smallest = ndimage.minimum_filter(no_background, size=(1, 3, 3), mode="nearest")
    return np.where(largest == smallest, labels, 0)


def dbmim_affinities(labels):
    """dbMiM's affinities of labels from 0: (v, v - e) at v, the first plane its own neighbour."""
    values = np.empty((3, *labels.shape), np.uint8)
    for axis in range(3):
        first = np.take(labels, [0], axis)
        before = np.concatenate([first, np.delete(labels, -1, axis)], axis)
        values[axis] = (labels == before) & (labels > 0)
    return values


def pairs_inside(array, offsets, edge_side):
    """{(channel, lower end, upper end): value} of the pairs that lie inside, whatever the side."""
    found = {}
    for channel, offset in enumerate(offsets):
        for here in voxels(array.shape[1:]):
            there = move(here, offset, 1 if edge_side == "source" else -1)
            if inside(there, array.shape[1:]):
                found[(channel, *sorted((here, there)))] = array[(channel, *here)]
    return found
