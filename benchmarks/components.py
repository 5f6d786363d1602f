"""Connected components of affinities beside a flood fill, cc3d and scipy, on the same graph.

    python benchmarks/components.py [--quick] [--data FOLDER]

The affinities are float16, made from real objects (synthetic ones without FOLDER, which defaults to
what EMSEG_TEST_DATA names). Every time begins with the affinities: the flood fill, compiled by
numba, gets them thresholded, cc3d as a graph of bits, scipy (on the smallest volume alone, for its
memory) as a matrix. Background is the flood fill's for those two, which have none.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cc3d
import numpy as np
from affinities import NEAREST, SIDE, made_affinities
from numba import njit
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from emseg.decoding.affinity_cc import affinity_cc
from emseg.kernels.affinity import shift_edges
from emseg.kernels.components import renumber

ROUNDS = 3
SHAPES = [(192, 192, 192), (384, 384, 384), (100, 1024, 1024)]
QUICK = [(32, 128, 128)]
MOST_FOR_SCIPY = 8_000_000
THRESHOLD = 0.75
# cc3d's bits of a voxel's graph: to the voxel after and before it along axes 0, 1, 2 (its x, y, z).
BITS = ((1, 2), (4, 8), (16, 32))

Labels = np.ndarray


@njit(cache=True)
def flood_fill(on: np.ndarray) -> np.ndarray:
    """Labels of the components, each filled from its first voxel with a stack of voxels."""
    depth, height, width = on.shape[1:]
    labels = np.zeros((depth, height, width), np.uint32)
    stack = [(0, 0, 0)]
    label = 0
    for i in range(depth):
        for j in range(height):
            for k in range(width):
                if labels[i, j, k] or not (on[0, i, j, k] or on[1, i, j, k] or on[2, i, j, k]):
                    continue
                label += 1
                labels[i, j, k] = label
                stack.append((i, j, k))
                while len(stack) > 1:
                    z, y, x = stack.pop()
                    if on[0, z, y, x] and z + 1 < depth and labels[z + 1, y, x] == 0:
                        labels[z + 1, y, x] = label
                        stack.append((z + 1, y, x))
                    if on[1, z, y, x] and y + 1 < height and labels[z, y + 1, x] == 0:
                        labels[z, y + 1, x] = label
                        stack.append((z, y + 1, x))
                    if on[2, z, y, x] and x + 1 < width and labels[z, y, x + 1] == 0:
                        labels[z, y, x + 1] = label
                        stack.append((z, y, x + 1))
                    if z > 0 and on[0, z - 1, y, x] and labels[z - 1, y, x] == 0:
                        labels[z - 1, y, x] = label
                        stack.append((z - 1, y, x))
                    if y > 0 and on[1, z, y - 1, x] and labels[z, y - 1, x] == 0:
                        labels[z, y - 1, x] = label
                        stack.append((z, y - 1, x))
                    if x > 0 and on[2, z, y, x - 1] and labels[z, y, x - 1] == 0:
                        labels[z, y, x - 1] = label
                        stack.append((z, y, x - 1))
    return labels


def ours(affinities: np.ndarray) -> Labels:
    return affinity_cc(affinities, threshold=THRESHOLD, offsets=NEAREST, edge_side="source")


def flooded(affinities: np.ndarray) -> Labels:
    # Three quarters is a half exactly, hence numpy may compare halves.
    return flood_fill(affinities > np.float16(THRESHOLD))


def by_cc3d(affinities: np.ndarray) -> Labels:
    graph = np.zeros(affinities.shape[1:], np.uint8)
    for axis, (after, before) in enumerate(BITS):
        here, there = _sides(axis)
        on = (affinities[axis][here] > np.float16(THRESHOLD)).view(np.uint8)
        graph[here] |= np.uint8(after) * on
        graph[there] |= np.uint8(before) * on
    # Its axes are those of an array in Fortran's order.
    return cc3d.color_connectivity_graph(np.asfortranarray(graph), connectivity=6)


def by_scipy(affinities: np.ndarray) -> Labels:
    shape = affinities.shape[1:]
    places = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    ends = []
    for axis in range(3):
        here, there = _sides(axis)
        on = affinities[axis][here] > np.float16(THRESHOLD)
        ends.append(np.stack([places[here][on], places[there][on]]))
    one, two = np.concatenate(ends, axis=1)
    edges = coo_matrix((np.ones(len(one), np.bool_), (one, two)), shape=(places.size,) * 2)
    return connected_components(edges, directed=False)[1].reshape(shape) + 1


def _sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    whole = [slice(None)] * axis
    return (*whole, slice(None, -1)), (*whole, slice(1, None))


SUBJECTS: dict[str, Callable[[np.ndarray], Labels]] = {
    "emseg": ours,
    "flood fill": flooded,
    "cc3d": by_cc3d,
    "scipy": by_scipy,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--data", default=os.environ.get("EMSEG_TEST_DATA"))
    parser.add_argument("--shape", type=int, nargs=3, help="one volume of this shape")
    arguments = parser.parse_args()
    result: dict[str, dict | str | bool] = {"benchmark": "components"}
    shapes = QUICK if arguments.quick else SHAPES
    reports = {}
    for shape in [tuple(arguments.shape)] if arguments.shape else shapes:
        name = "x".join(map(str, shape))
        reports[name] = compare(shape, arguments.data, name)
    for key in ("ratios", "bytes_per_voxel", "two_cores"):
        result[key] = {name: report[key] for name, report in reports.items()}
    result["equal"] = all(report["equal"] for report in reports.values())
    print(json.dumps(result))


def compare(shape: Sequence[int], data: str | None, volume: str) -> dict:
    """Times, memory and equality on one volume, printed and returned."""
    stored = made_affinities(shape, data).astype(np.float16)
    affinities = shift_edges(stored, offsets=NEAREST, from_side=SIDE, to_side="source")
    del stored
    subjects = [s for s in SUBJECTS if s != "scipy" or np.prod(shape) <= MOST_FOR_SCIPY]
    few = np.ascontiguousarray(affinities[:, :8, :8, :8])
    for subject in subjects:
        SUBJECTS[subject](few)  # compiles
    seconds: dict[str, list[float]] = {subject: [] for subject in [*subjects, "one core"]}
    cores = os.sched_getaffinity(0)
    pairs = [("emseg", cores), ("one core", {min(cores)})]
    equal: dict[str, bool] = {}
    for turn in range(ROUNDS):
        reference = timed("flood fill", affinities, seconds["flood fill"])
        # What comes first finds memory that nobody has had for a while.
        for name, used in pairs if turn % 2 == 0 else reversed(pairs):
            os.sched_setaffinity(0, used)
            labels = timed("emseg", affinities, seconds[name])
            equal[name] = same(labels, reference) and equal.get(name, True)
        os.sched_setaffinity(0, cores)
        for subject in subjects:
            if subject not in ("flood fill", "emseg"):
                labels = timed(subject, affinities, seconds[subject])
                if turn == 0:
                    equal[subject] = same(labels, reference, renumbered=True)
                del labels
    bytes_per_voxel = {s: measured(s, affinities) for s in ("emseg", "flood fill")}
    median = {subject: statistics.median(times) for subject, times in seconds.items()}
    print(f"{volume}: {int(reference.max())} components, foreground {(reference > 0).mean():.2f}")
    for subject, taken in median.items():
        told = "" if subject not in equal else f"   {'equal' if equal[subject] else 'DIFFERENT'}"
        told += f"   {bytes_per_voxel[subject]:.1f} B/voxel" if subject in bytes_per_voxel else ""
        print(f"  {subject:12} {taken:8.3f} s{told}")
    return {
        "ratios": {s: round(median[s] / median["emseg"], 1) for s in subjects if s != "emseg"},
        "bytes_per_voxel": round(bytes_per_voxel["emseg"], 1),
        "two_cores": round(median["one core"] / median["emseg"], 2),
        "equal": all(equal.values()),
    }


def timed(subject: str, affinities: np.ndarray, seconds: list[float]) -> Labels:
    start = time.perf_counter()
    labels = SUBJECTS[subject](affinities)
    seconds.append(time.perf_counter() - start)
    return labels


def same(labels: Labels, reference: Labels, *, renumbered: bool = False) -> bool:
    """Whether labels equal the reference, `renumbered` by first voxel and where that has any."""
    if renumbered:
        labels = renumber(np.where(reference > 0, labels, 0).astype(np.uint64))
    return bool(np.array_equal(labels, reference))


def measured(subject: str, affinities: np.ndarray) -> float:
    """Peak memory in bytes a voxel, labels included, beyond the affinities; in a process alone."""
    spawned = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "affinities.npy"
        np.save(path, affinities)
        with ProcessPoolExecutor(max_workers=1, mp_context=spawned) as pool:
            return pool.submit(_peak, subject, path).result() / affinities[0].size


def _peak(subject: str, path: Path) -> float:
    affinities = np.load(path)
    SUBJECTS[subject](np.ascontiguousarray(affinities[:, :8, :8, :8]))
    Path("/proc/self/clear_refs").write_text("5")  # from here on a new peak counts
    before = _memory("VmRSS")
    SUBJECTS[subject](affinities)
    return _memory("VmHWM") - before


def _memory(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith(f"{entry}:")]
    return int(found.split()[1]) * 1024


if __name__ == "__main__":
    main()
