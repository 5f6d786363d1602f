"""Components of thresholded affinities by flooding, and partitions compared."""

import numpy as np

from reference.affinity import inside, move, voxels


def flood_components(affinities, threshold, offsets, edge_side):
    """Canonical labels; unit offsets of either sign, one per channel."""
    shape = affinities.shape[1:]
    on = affinities.astype(np.float32) > np.float32(threshold)
    neighbours = {here: set() for here in voxels(shape)}
    foreground = set()
    for channel, offset in enumerate(offsets):
        for here in voxels(shape):
            if not on[(channel, *here)]:
                continue
            foreground.add(here)
            there = move(here, offset, 1 if edge_side == "source" else -1)
            if inside(there, shape):
                foreground.add(there)
                neighbours[here].add(there)
                neighbours[there].add(here)
    labels = np.zeros(shape, np.int64)
    count = 0
    for seed in voxels(shape):
        if seed not in foreground or labels[seed]:
            continue
        count += 1
        stack = [seed]
        labels[seed] = count
        while stack:
            for there in neighbours[stack.pop()]:
                if not labels[there]:
                    labels[there] = count
                    stack.append(there)
    return labels


def numbered(labels, min_size=0):
    """Labels renumbered by first voxel; 0 stays, ids with fewer than min_size voxels become 0."""
    flat = labels.ravel().tolist()
    numbers = {}
    for label in flat:
        if label and flat.count(label) >= min_size:
            numbers.setdefault(label, len(numbers) + 1)
    return np.array([numbers.get(label, 0) for label in flat]).reshape(labels.shape)
