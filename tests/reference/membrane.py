"""dbMiM's weights and losses voxel by voxel, in float64."""

import itertools

import numpy as np


def membrane_edges(image, axis_weights, clip):
    """(B, Z, Y, X) of images (B, C, Z, Y, X)."""
    samples, channels, *space = image.shape
    edges = np.zeros((samples, *space))
    for b, c in itertools.product(range(samples), range(channels)):
        for place in np.ndindex(*space):
            for axis in range(3):
                if place[axis]:
                    before = (*place[:axis], place[axis] - 1, *place[axis + 1 :])
                    step = abs(float(image[b, c][place]) - float(image[b, c][before]))
                    edges[b][place] += axis_weights[axis] * step / channels
    for b in range(samples):
        edges[b] = np.minimum(edges[b] / max(edges[b].mean(), 1e-6), clip)
    return edges


def maws(logits, target, mask, image, *, weight, axis_weights, clip, channel_weights):
    edges = membrane_edges(image, axis_weights, clip)
    entries = [
        (
            channel_weights[c],
            1 + weight * edges[b, z, y, x],
            logits[b, c, z, y, x],
            target[b, c, z, y, x],
        )
        for b, c, z, y, x in zip(*np.nonzero(mask), strict=True)
    ]
    if not entries:
        return 0.0
    mean = sum(w for _, w, _, _ in entries) / len(entries)
    total = sum(
        c * w / mean * (1 / (1 + np.exp(-float(s))) - float(t)) ** 2 for c, w, s, t in entries
    )
    return total / max(sum(c * w / mean for c, w, _, _ in entries), 1)


def masked_pixels(prediction, image, hidden, *, weight, axis_weights, clip):
    """The error of hidden patches, averaged over samples; `hidden` is (B, *grid)."""
    edges = membrane_edges(image, axis_weights, clip)
    sizes = [n // g for n, g in zip(image.shape[2:], hidden.shape[1:], strict=True)]
    found = []
    for b in range(len(image)):
        total = weights = 0.0
        for place in zip(*np.nonzero(hidden[b]), strict=True):
            box = tuple(slice(p * s, (p + 1) * s) for p, s in zip(place, sizes, strict=True))
            error = ((prediction[b].astype(np.float64) - image[b])[(..., *box)] ** 2).mean()
            omega = 1 + weight * edges[b][box].mean()
            total, weights = total + omega * error, weights + omega
        found.append(total / max(weights, 1))
    return sum(found) / len(found)


def structure(prediction, image, axis_weights):
    found = 0.0
    for axis, weight in enumerate(axis_weights, 2):
        steps = np.diff(prediction.astype(np.float64), axis=axis)
        found += weight * np.abs(steps - np.diff(image.astype(np.float64), axis=axis)).mean()
    return found / sum(axis_weights)
