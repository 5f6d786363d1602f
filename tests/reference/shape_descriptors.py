"""Local shape descriptors, voxel by voxel from their definition."""

import itertools

import numpy as np


def descriptors_by_voxel(labels: np.ndarray, *, resolution, sigma: float) -> np.ndarray:
    """(10, Z, Y, X): weighted mean and covariance of the positions of each voxel's object."""
    resolution = np.asarray(resolution, float)
    reach = [int(3 * sigma / nm + 0.5) for nm in resolution]
    steps = np.array([*itertools.product(*(range(-r, r + 1) for r in reach))])
    weight = np.exp(-0.5 * ((steps * resolution / sigma) ** 2).sum(axis=1))
    weight /= weight.sum()
    values = np.zeros((10, *labels.shape))
    for voxel in np.argwhere(labels > 0):
        at = voxel + steps
        inside = ((at >= 0) & (at < labels.shape)).all(axis=1)
        same = inside.copy()
        same[inside] = labels[tuple(at[inside].T)] == labels[tuple(voxel)]
        share, places = weight[same].sum(), steps[same] * resolution
        mean = (weight[same, None] * places).sum(axis=0) / share
        apart = places - mean
        covariance = (weight[same, None, None] * apart[:, :, None] * apart[:, None]).sum(0) / share
        variance = np.maximum(np.diag(covariance), 1e-3)
        correlation = [
            covariance[i, j] / np.sqrt(variance[i] * variance[j])
            for i, j in ((0, 1), (0, 2), (1, 2))
        ]
        values[(slice(None), *voxel)] = [
            *(0.5 + mean / sigma / 2),
            *(variance / sigma**2),
            *(0.5 + np.array(correlation) / 2),
            share,
        ]
    return np.clip(values, 0, 1)
