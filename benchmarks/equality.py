"""Where the decoder equals waterz, and by how much it differs elsewhere, at nine thresholds.

python benchmarks/equality.py [--prediction FILE.h5] [--data DIR] [--quick]

Fragments; the mean with an exact queue; and two percentiles, whose 256 scores always tie, which
waterz takes in another order: given waterz's fragments and its queue of 256 bins, and as they come.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from affinities import made_affinities
from scipy.ndimage import binary_dilation

from emseg.decoding.agglomerate import Agglomerate
from emseg.decoding.agglomeration.merging import merge
from emseg.decoding.agglomeration.supervoxels import given_supervoxels
from emseg.decoding.agglomeration.waterz_child import waterz_partitions
from emseg.decoding.edges import axis_edges, destination_affinities
from emseg.evaluation.voi import voi
from emseg.volumes import open_volume

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}
LIMITS = (0.1, 0.999)
THRESHOLDS = [round(0.1 * step, 1) for step in range(1, 10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prediction", type=Path, help="nearest offsets first, as emseg writes it")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--untie", action="store_true", help="break ties: a millionth, at random")
    options = parser.parse_args()
    shape = (32, 96, 96) if options.quick else (64, 256, 256)
    if options.prediction:
        volume = open_volume(options.prediction).select([0, 1, 2])
        side = volume.attributes["edge_side"]
        offsets = volume.attributes["offsets"][:3]
        edges = destination_affinities(volume[...], axis_edges(offsets, side))
    else:
        edges = made_affinities(shape, str(options.data))
    tied = ties_below(edges, LIMITS[1])
    rng = np.random.default_rng(0)
    while options.untie and tied.any():
        near = binary_dilation(tied)
        edges[:, near] *= 1 - 1e-6 * rng.random((3, np.count_nonzero(near)), np.float32)
        tied = ties_below(edges, LIMITS[1])
    print(f"{edges.shape[1:]}: {np.count_nonzero(tied)} voxels tie below {LIMITS[1]}")
    result = {"fragments": compare(edges, "mean", 0, thresholds=[0.0])}
    for function, queue in (("mean", 0), ("aff50_his256", 256), ("aff85_his256", 256)):
        result[f"{function}, given fragments"] = compare_given(edges, function, queue)
        result[function] = compare(edges, function, queue)
    for name, line in result.items():
        print(
            f"{name}: {line['equal']} of {line['of']} equal, {line['unit']} <= {line['worst']:.5g}"
        )
    print(json.dumps({"benchmark": "equality", **result}))


def ties_below(edges: np.ndarray, high: float) -> np.ndarray:
    """Where the strongest edge of a voxel is not the only one so strong, and is not high."""
    around = [edges[axis] for axis in range(3)]
    for axis in range(3):
        ahead = np.zeros_like(edges[axis])
        to, of = [[slice(None)] * 3 for _ in range(2)]
        to[axis], of[axis] = slice(None, -1), slice(1, None)
        ahead[tuple(to)] = edges[axis][tuple(of)]
        around.append(ahead)
        first = [slice(None)] * 3
        first[axis] = slice(0, 1)
        around[axis] = around[axis].copy()
        around[axis][tuple(first)] = 0
    strongest = np.maximum.reduce(around)
    count = sum((one == strongest).astype(np.uint8) for one in around)
    return (count > 1) & (strongest < np.float32(high)) & (strongest > np.float32(LIMITS[0]))


def compare(
    edges: np.ndarray, function: str, queue: int, thresholds: Sequence[float] = THRESHOLDS
) -> dict[str, Any]:
    """How many of the partitions of both are equal, as they come, and the largest VOI."""
    fragments, partitions = waterz_partitions(
        edges, thresholds, merge_function=function, aff_threshold=LIMITS, discretize_queue=queue
    )
    decoder = Agglomerate(merge_function=function, aff_threshold=LIMITS, discretize_queue=queue)
    ours = decoder.sweep(edges, thresholds, **FACTS)
    pairs = (
        (labels, roots[fragments]) for (_, labels), (_, roots) in zip(ours, partitions, strict=True)
    )
    return _summed("VOI", (distance(one, two) for one, two in pairs))


def compare_given(edges: np.ndarray, function: str, queue: int) -> dict[str, Any]:
    """The same, but ours from waterz's fragments, in fragments that are in another segment."""
    fragments, partitions = waterz_partitions(
        edges, THRESHOLDS, merge_function=function, aff_threshold=LIMITS, discretize_queue=queue
    )
    found = given_supervoxels(
        fragments, edges, edges=axis_edges(UNITS, "destination"), histograms=False
    )
    tree = merge(found.graph, merge_function=function, until=1.0, discretize_queue=queue)
    pairs = ((tree.roots(threshold), roots) for threshold, roots in partitions)
    return _summed("fragments apart", (np.count_nonzero(one != two) for one, two in pairs))


def distance(one: np.ndarray, two: np.ndarray) -> float:
    """VOI of two segmentations over all voxels, 0 where they are the same partition."""
    found = voi(one.reshape(-1), two.reshape(-1).astype(np.int64) + 1)
    return found["voi_sum"]


def _summed(unit: str, distances: Iterable[float]) -> dict[str, Any]:
    found = list(distances)
    equal = sum(one < 1e-12 for one in found)
    return {"equal": int(equal), "of": len(found), "worst": float(max(found)), "unit": unit}


if __name__ == "__main__":
    main()
