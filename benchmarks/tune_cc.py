"""Run lengths at 21 thresholds from one pass, beside one decode and evaluation.

    python benchmarks/tune_cc.py [--quick] [--data FOLDER]

The affinities are float16, made from real objects (synthetic ones without FOLDER, which defaults to
what EMSEG_TEST_DATA names); the skeletons join points of a lattice that lie in one object. What the
pass gives at each threshold is compared to a decode of its own.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from affinities import NEAREST, SIDE, made_affinities, made_labels

from emseg.decoding.affinity_cc import AffinityCC, affinity_cc
from emseg.evaluation.erl import nerl
from emseg.volumes.skeletons import Skeletons

ROUNDS = 5
SHAPE, QUICK = (192, 192, 192), (48, 96, 96)
THRESHOLDS = [round(0.5 + 0.02 * step, 2) for step in range(21)]
ONE = 0.7
# Voxels between points of the lattice, and their size in nm.
LATTICE, VOXEL = 6, (20.0, 9.0, 9.0)

Scores = dict[float, dict[str, float]]


def lattice_skeletons(labels: np.ndarray) -> Skeletons:
    """A skeleton per object, of lattice points in it and edges between neighbours among these."""
    inside = labels[tuple(slice(LATTICE // 2, None, LATTICE) for _ in range(3))]
    nodes = np.full(inside.shape, -1)
    nodes[inside > 0] = np.arange(np.count_nonzero(inside))
    edges = []
    for axis in range(3):
        one, two = (np.moveaxis(array, axis, 0) for array in (nodes[...], inside))
        joined = (two[:-1] == two[1:]) & (two[1:] > 0)
        edges.append(np.stack([one[:-1][joined], one[1:][joined]], axis=1))
    voxels = np.argwhere(inside > 0) * LATTICE + LATTICE // 2
    ids, owner = np.unique(inside[inside > 0], return_inverse=True)
    return Skeletons(
        ids=ids,
        owner=owner,
        voxels=voxels,
        positions=voxels * np.array(VOXEL),
        edges=np.concatenate(edges),
    )


def decoded(prediction: np.ndarray, skeletons: Skeletons, threshold: float) -> Scores:
    labels = affinity_cc(prediction, threshold=threshold, offsets=NEAREST, edge_side=SIDE)
    return {threshold: nerl(labels, None, skeletons=skeletons)}


def swept(prediction: np.ndarray, skeletons: Skeletons) -> Scores:
    facts: dict[str, Any] = {"offsets": NEAREST, "edge_side": SIDE}
    found = AffinityCC().nodes(prediction, skeletons.voxels, THRESHOLDS, **facts)
    return {
        threshold: nerl(None, None, skeletons=skeletons, node_segments=segments)
        for threshold, segments in found
    }


def timed(call: Callable[[], Scores]) -> tuple[float, Scores]:
    start = time.perf_counter()
    scores = call()
    return time.perf_counter() - start, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--data", default=os.environ.get("EMSEG_TEST_DATA"))
    arguments = parser.parse_args()
    shape = QUICK if arguments.quick else SHAPE
    labels, origin = made_labels(shape, arguments.data)
    prediction = made_affinities(shape, arguments.data).astype(np.float16)
    skeletons = lattice_skeletons(labels)
    few = np.ascontiguousarray(prediction[:, :12, :12, :12])
    decoded(few, lattice_skeletons(labels[:12, :12, :12]), ONE)  # compiles
    swept(few, lattice_skeletons(labels[:12, :12, :12]))
    seconds: dict[str, list[float]] = {"one": [], "all": []}
    scores: Scores = {}
    for _ in range(ROUNDS):
        taken, _ = timed(lambda: decoded(prediction, skeletons, ONE))
        seconds["one"].append(taken)
        taken, scores = timed(lambda: swept(prediction, skeletons))
        seconds["all"].append(taken)
    alone: Scores = {}
    for threshold in THRESHOLDS:
        alone |= decoded(prediction, skeletons, threshold)
    one, several = (statistics.median(seconds[name]) for name in ("one", "all"))
    print(f"{origin}: {len(skeletons.ids)} skeletons, {len(skeletons.voxels)} nodes")
    print(f"one decode and evaluation  {one:8.3f} s")
    print(f"{len(THRESHOLDS)} thresholds in one pass  {several:8.3f} s")
    print("threshold, NERL: " + ", ".join(f"{t} {scores[t]['nerl']:.6f}" for t in THRESHOLDS[::4]))
    result = {
        "benchmark": "tune_cc",
        "ratios": {"x".join(map(str, shape)): round(several / one, 2)},
        "thresholds": len(THRESHOLDS),
        "equal": scores == alone,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
