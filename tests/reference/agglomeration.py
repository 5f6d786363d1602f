"""Region graph, merging and dust as their definitions say it, with dicts and lists."""

from fractions import Fraction

import numpy as np

from reference.affinity import inside, move, voxels
from reference.components import numbered
from reference.watershed import STEPS, fragment_labels, joined_pairs

UNIT = 2**28


def region_graph(affinities, labels, axes=(0, 1, 2)):
    """{(u, v): affinities between the two, in C order of their voxels and by axis}, u < v."""
    graph = {}
    for here in voxels(labels.shape):
        for axis in axes:
            before = move(here, STEPS[axis], -1)
            if inside(before, labels.shape):
                u, v = sorted((int(labels[before]), int(labels[here])))
                if 0 < u < v:
                    graph.setdefault((u, v), []).append(float(affinities[(axis, *here)]))
    return graph


def whole(affinity):
    """An affinity as a whole number of 1 / UNIT, halves up."""
    return int(Fraction(affinity) * UNIT + Fraction(1, 2))


def bin_of(affinity):
    return min(int(Fraction(affinity) * 256), 255)


def samples_of(affinities, merge_function):
    """What a score is computed from, to begin with; merging edges puts their lists together."""
    if merge_function == "mean":
        return [whole(affinity) for affinity in affinities]
    if merge_function.startswith("aff"):
        return [bin_of(max(affinities))]
    return [bin_of(affinity) for affinity in affinities]


def quantile_of(merge_function):
    """Percent; 0 for the mean."""
    digits = merge_function.removeprefix("hist_quant_").removeprefix("aff").removesuffix("_his256")
    return 0 if merge_function == "mean" else int(digits)


def score_of(samples, quantile, levels=False):
    """One minus the mean or quantile, a float32's value; with levels the centre of its bin."""
    if quantile == 0:
        mean = np.float32(float(Fraction(sum(samples), UNIT * len(samples))))
        score = float(np.float32(1 - float(mean)))
    else:
        rank = quantile * len(samples) // 100 + 1
        score = 1 - (sorted(samples)[rank - 1] + 0.5) / 256
    return (bin_of(score) + 0.5) / 256 if levels else score


def merges(samples, quantile, until, levels=False):
    """[(larger, smaller, score)], regions named by their smallest fragment, in order of merging.

    `samples` {(u, v): list}. The contact of the lowest score is next, of equals the one whose
    largest original pair, in the order of pairs, is the smallest.
    """
    graph = {}
    for at, (pair, own) in enumerate(sorted(samples.items())):
        graph[frozenset(pair)] = (score_of(own, quantile, levels), at, list(own))
    done = []
    while graph:
        pair = min(graph, key=lambda pair: graph[pair][:2])
        score = graph.pop(pair)[0]
        if score >= np.float32(until):
            break
        smaller, larger = sorted(pair)
        done.append((larger, smaller, score))
        for old in [old for old in graph if larger in old]:
            _, at, own = graph.pop(old)
            new = old - {larger} | {smaller}
            if new in graph:
                _, other, more = graph[new]
                at, own = max(at, other), own + more
            graph[new] = (score_of(own, quantile, levels), at, own)
    return done


def roots_of(done, fragments):
    """[root of 0, 1, … fragments]: the smallest fragment that each was merged with."""
    roots = list(range(fragments + 1))
    for larger, smaller, _ in done:
        roots = [smaller if root == larger else root for root in roots]
    return roots


def merge_dust(samples, roots, sizes, quantile, below, affinity):
    """The roots after small segments were merged, strongest contact first, of equals by (u, v)."""
    contacts = {}
    for (u, v), own in samples.items():
        pair = tuple(sorted((roots[u], roots[v])))
        if pair[0] < pair[1]:
            contacts.setdefault(pair, []).extend(own)
    affinities = {pair: np.float32(1 - score_of(own, quantile)) for pair, own in contacts.items()}
    voxels_of = dict.fromkeys(roots, 0)
    for root, size in zip(roots, sizes, strict=True):
        voxels_of[root] += size
    current = {root: root for root in roots}
    for pair in sorted(affinities, key=lambda pair: (-affinities[pair], pair)):
        one, two = sorted(current[root] for root in pair)
        if affinities[pair] <= np.float32(affinity):
            break
        if one != two and min(voxels_of[one], voxels_of[two]) < below:
            voxels_of[one] += voxels_of.pop(two)
            current = {root: one if now == two else now for root, now in current.items()}
    return [current[root] for root in roots]


def agglomerated(
    affinities,
    threshold,
    merge_function,
    low,
    high,
    *,
    levels=False,
    dust_merge_size=0,
    dust_merge_affinity=0.3,
    dust_remove_size=0,
    fragments=None,
):
    """Labels by watershed and merging; affinities (3, Z, Y, X), channel a at v for (v - e_a, v).

    Given `fragments` are merged instead of the watershed's.
    """
    if fragments is None:
        fragments = fragment_labels(affinities.shape[1:], *joined_pairs(affinities, low, high))
    quantile = quantile_of(merge_function)
    samples = {
        pair: samples_of(own, merge_function)
        for pair, own in region_graph(affinities, fragments).items()
    }
    roots = roots_of(merges(samples, quantile, threshold, levels), fragments.max())
    sizes = np.bincount(fragments.ravel()).tolist()
    roots = merge_dust(samples, roots, sizes, quantile, dust_merge_size, dust_merge_affinity)
    return numbered(np.array(roots)[fragments], dust_remove_size)
