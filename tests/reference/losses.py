"""Losses voxel by voxel, in float64."""

import math

import numpy as np


def per_channel_bce(logits, target, mask, *, cap):
    return sum(
        mean_bce(logits[:, [c]], target[:, [c]], mask[:, [c]], cap=cap)
        for c in range(logits.shape[1])
    )


def mean_bce(logits, target, mask, *, cap):
    entries = [(float(z), bool(t)) for z, t in zip(logits[mask], target[mask], strict=True)]
    if not entries:
        return 0.0
    positives = sum(t for _, t in entries)
    negatives = len(entries) - positives
    weight = 1.0
    if cap is not None and positives and negatives:
        weight = min(negatives / positives, cap)
    costs = [
        weight * math.log1p(math.exp(-z)) if t else math.log1p(math.exp(z)) for z, t in entries
    ]
    return sum(costs) / len(costs)


def dice(logits, target, mask, *, smooth, batch):
    losses = []
    n, channels = logits.shape[:2]
    for samples in [list(range(n))] if batch else [[i] for i in range(n)]:
        for c in range(channels):
            p, t = [], []
            for i in samples:
                valid = mask[i, c]
                p.extend(1 / (1 + np.exp(-logits[i, c][valid].astype(np.float64))))
                t.extend(target[i, c][valid])
            if p:
                overlap = sum(a * b for a, b in zip(p, t, strict=True))
                losses.append(1 - (2 * overlap + smooth) / (sum(p) + sum(t) + smooth))
    return sum(losses) / len(losses) if losses else 0.0


def smooth_l1(values, target, mask):
    costs = []
    for v, t in zip(values[mask], target[mask], strict=True):
        d = abs(float(v) - float(t))
        costs.append(d * d / 2 if d < 1 else d - 0.5)
    return sum(costs) / len(costs) if costs else 0.0
