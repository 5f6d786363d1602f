"""The numbers of cleft masks by their definitions: every voxel is held against every other."""

import numpy as np


def masks(segmentation, truth):
    known = truth != -1
    return known & (segmentation > 0), known & (truth > 0)


def to_nearest(here, there, voxel_size):
    """For each voxel of one mask the distance to the nearest of the other, inf if there is none."""
    ours, theirs = (np.argwhere(mask) * np.asarray(voxel_size, float) for mask in (here, there))
    if not len(theirs):
        return np.full(len(ours), np.inf)
    return np.array([np.sqrt(((theirs - one) ** 2).sum(1)).min() for one in ours])


def statistics(distances):
    """Mean, standard deviation, greatest and median; nan of nothing."""
    if not len(distances):
        return [np.nan] * 4
    mean = sum(distances) / len(distances)
    if np.isinf(mean):
        return [mean, np.nan, mean, mean]
    ordered, half = sorted(distances), len(distances) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    spread = sum((one - mean) ** 2 for one in distances) / len(distances)
    return [mean, spread**0.5, ordered[-1], median]


def cremi_distance_by_definition(segmentation, truth, voxel_size):
    """All numbers of `cremi_distance`, by their names."""
    ours, theirs = masks(segmentation, truth)
    found, missed = to_nearest(ours, theirs, voxel_size), to_nearest(theirs, ours, voxel_size)
    false = [sum(one > 200.0001 for one in distances) for distances in (found, missed)]
    sizes = [len(found), len(missed)]
    both = sizes[0] and sizes[1]
    adgt, adf = (statistics(one if any(sizes) else [0.0]) for one in (found, missed))
    score = (adgt[0] + adf[0]) / 2 if both or not any(sizes) else np.inf
    names = ["", "_std", "_max", "_median"]
    return {
        "cremi_distance": score,
        "cremi_false_positives": false[0],
        "cremi_false_negatives": false[1],
        "cremi_segmentation_voxels": sizes[0],
        "cremi_truth_voxels": sizes[1],
        **{f"cremi_adgt{name}": one for name, one in zip(names, adgt, strict=True)},
        **{f"cremi_adf{name}": one for name, one in zip(names, adf, strict=True)},
    }


def jaccard_by_definition(segmentation, truth):
    """Jaccard index, precision and recall, over sets of places; 1 for a part of nothing."""
    ours, theirs = ({*map(tuple, np.argwhere(mask))} for mask in masks(segmentation, truth))
    both = len(ours & theirs)
    return [both / len(of) if of else 1.0 for of in (ours | theirs, ours, theirs)]
