"""The expected run length by walking over edges, one by one."""

import math
from collections import defaultdict


def runs(segment_of, owner_of, position_of, edges, tolerance=0):
    """(sum of squared correct runs, sum of lengths, sum of squared lengths) of all skeletons."""
    inside = defaultdict(int)
    for node, segment in segment_of.items():
        inside[owner_of[node], segment] += 1
    present = {pair for pair, count in inside.items() if count > tolerance}
    skeletons_in = defaultdict(set)
    for skeleton, segment in present:
        skeletons_in[segment].add(skeleton)
    merging = {segment for segment, inside in skeletons_in.items() if len(inside) >= 2}
    joined = {skeleton for skeleton, segment in present if segment in merging}
    run, length = defaultdict(float), defaultdict(float)
    for one, two in edges:
        skeleton = owner_of[one]
        step = math.dist(position_of[one], position_of[two])
        length[skeleton] += step
        here, there = segment_of[one], segment_of[two]
        if 0 in (here, there) or here != there:
            continue
        if skeleton in joined and here in merging:
            continue
        run[skeleton, here] += step
    return (
        sum(value**2 for value in run.values()),
        sum(length.values()),
        sum(value**2 for value in length.values()),
    )


def nerl(segment_of, owner_of, position_of, edges, tolerance=0):
    """The normalised expected run length."""
    correct, _, possible = runs(segment_of, owner_of, position_of, edges, tolerance)
    return correct / possible
