"""Run lengths along 400 skeletons of 1000 nodes, beside a loop over the edges of a networkx graph.

    python benchmarks/erl.py [--quick]

The loop is the plain way to write the definition: of every edge it looks up both ends' attributes.
It gives the strict score alone; ours gives all tolerances, splits and mergers in the same time.
"""

import argparse
import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import networkx as nx
import numpy as np

from emseg.evaluation.erl import nerl
from emseg.volumes.skeletons import Skeletons

ROUNDS = 3
SKELETONS, NODES = 400, 1000
QUICK = (40, 300)


def make(skeletons: int, nodes: int) -> tuple[Skeletons, np.ndarray]:
    """Random trees, and a segmentation of their nodes with splits, mergers and gaps."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(skeletons), nodes)
    child = np.arange(skeletons * nodes)
    inner = child[child % nodes > 0]
    parent = inner - np.minimum(rng.integers(1, 4, len(inner)), inner % nodes)
    voxels = np.cumsum(rng.integers(-2, 3, (skeletons * nodes, 3)), axis=0)
    found = Skeletons(
        ids=np.arange(1, skeletons + 1),
        owner=owner,
        voxels=voxels,
        positions=voxels * np.array([20.0, 9.0, 9.0]),
        edges=np.stack([parent, inner], axis=1),
    )
    # Pieces of a skeleton of some 90 nodes, a few of them joined to others or left out.
    pieces = child // 90 + 1
    joined = rng.permutation(pieces.max() + 1)
    few = rng.random(pieces.max() + 1)
    names = np.where(few < 0.02, joined, np.arange(pieces.max() + 1))
    names[few > 0.98] = 0
    return found, names[pieces]


def graph_of(skeletons: Skeletons, segments: np.ndarray) -> nx.Graph:
    graph = nx.Graph()
    for node, (owner, place, segment) in enumerate(
        zip(skeletons.owner, skeletons.positions, segments, strict=True)
    ):
        graph.add_node(node, id=int(owner), position=place.tolist(), segment=int(segment))
    graph.add_edges_from(skeletons.edges.tolist())
    return graph


def loop(graph: nx.Graph) -> float:
    """NERL, edge by edge."""
    skeletons_in = defaultdict(set)
    for _, facts in graph.nodes.items():
        skeletons_in[facts["segment"]].add(facts["id"])
    run, length = defaultdict(float), defaultdict(float)
    for one, two in graph.edges:
        here, there = graph.nodes[one], graph.nodes[two]
        step = math.dist(here["position"], there["position"])
        length[here["id"]] += step
        segment = here["segment"]
        if segment and segment == there["segment"] and len(skeletons_in[segment]) == 1:
            run[here["id"], segment] += step
    return sum(value**2 for value in run.values()) / sum(value**2 for value in length.values())


def ours(segments: np.ndarray, skeletons: Skeletons) -> float:
    return nerl(None, None, node_segments=segments, skeletons=skeletons)["nerl"]


def timed(call: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = call()
    return time.perf_counter() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter skeletons")
    size = QUICK if parser.parse_args().quick else (SKELETONS, NODES)
    skeletons, segments = make(*size)
    graph = graph_of(skeletons, segments)
    seconds: dict[str, list[float]] = {"networkx loop": [], "emseg": []}
    values = {}
    for _ in range(ROUNDS):
        for name, call in (
            ("networkx loop", lambda: loop(graph)),
            ("emseg", lambda: ours(segments, skeletons)),
        ):
            taken, values[name] = timed(call)
            seconds[name].append(taken)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, median in medians.items():
        print(f"{name:14} {median:9.4f} s   NERL {values[name]:.12f}")
    equal = abs(values["emseg"] - values["networkx loop"]) <= 1e-9
    ratio = round(medians["networkx loop"] / medians["emseg"], 1)
    name = f"{size[0]}x{size[1]}"
    print(json.dumps({"benchmark": "erl", "ratios": {name: ratio}, "equal": equal}))


if __name__ == "__main__":
    main()
