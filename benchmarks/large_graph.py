"""Merges a made-up graph that is larger than the memory it may use, and compares the trees.

    python benchmarks/large_graph.py [--edges 200e6] [--gib 6 2] [--threads 2] [--folder FOLDER]

Regions lie on a grid and touch the next three, to the right, below and diagonally; the affinity of
a contact is that of its place in smooth noise, and some of its own. The edges are in a file, and
contacts that do not fit in the given GiB are in files, too. Peaks are of memory that is not backed
by a file, above what importing leaves.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from engines import alone
from scipy.ndimage import gaussian_filter

from emseg.blocks.memory import GIB
from emseg.decoding.agglomeration.merging import merge
from emseg.decoding.agglomeration.region_graph import RegionGraph
from emseg.kernels.region_edges import EDGE, SUM_UNIT

UNTIL = 0.5
ROWS_AT_ONCE = 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edges", type=float, default=200e6)
    parser.add_argument("--gib", type=float, nargs="+", default=[6.0, 2.0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", help="where files of some 15 bytes per edge fit")
    arguments = parser.parse_args()
    from large_graph import measure  # by a name that another process can import

    side = round((arguments.edges / 3) ** 0.5)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        count = make_graph(folder / "edges.npy", side)
        print(f"{side * side} regions, {count} edges")
        found = []
        for number, gib in enumerate(arguments.gib):
            tree = folder / f"tree{number}.npy"
            facts = alone(measure, folder / "edges.npy", side * side, gib, arguments.threads, tree)
            found.append(facts)
            print(", ".join(f"{key} {value:.4g}" for key, value in facts.items()), flush=True)
        trees = [np.load(folder / f"tree{number}.npy") for number in range(len(found))]
        equal = all(np.array_equal(trees[0], other) for other in trees[1:])
        print(
            json.dumps({"benchmark": "large_graph", "edges": count, "equal": equal, "runs": found})
        )


def make_graph(path: Path, side: int) -> int:
    """The number of EDGEs, which are put in a .npy file, sorted by (u, v)."""
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.standard_normal((512, 512)), 6, mode="wrap")
    smooth /= smooth.std()
    columns = np.arange(side)
    count = 3 * side * side - 4 * side + 1
    edges = np.lib.format.open_memmap(path, "w+", EDGE, (count,))
    end = 0
    for row in range(side):
        base = 1 + row * side + columns
        steps = [(0, 1), (1, 0), (1, 1)] if row + 1 < side else [(0, 1)]
        part = np.zeros((side, len(steps)), EDGE)
        inside = np.ones((side, len(steps)), bool)
        for at, (down, right) in enumerate(steps):
            part["u"][:, at], part["v"][:, at] = base, base + down * side + right
            inside[-1, at] = not right
            logits = 1 + 2 * smooth[row % 512, columns % 512] + rng.standard_normal(side)
            part["max"][:, at] = 1 / (1 + np.exp(-logits))
        part["count"] = rng.integers(1, 50, part.shape)
        part["sum"] = part["max"].astype(np.float64) * part["count"] * SUM_UNIT
        own = part[inside]
        edges[end : end + len(own)] = own
        end += len(own)
    edges.flush()
    return end


def measure(path: Path, regions: int, gib: float, threads: int, result: Path) -> dict[str, float]:
    """Seconds, edges per second, merges and the peak; parents and heights are put at `result`."""
    sizes = np.ones(regions + 1, np.uint8)
    graph = RegionGraph(np.load(path, mmap_mode="r"), None, sizes)
    toy = RegionGraph(np.array([(1, 2, 0.9, 1, SUM_UNIT)], EDGE), None, sizes[:3])
    merge(toy, merge_function="mean", until=UNTIL)
    before, peak, done = _anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], _anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    tree = merge(graph, merge_function="mean", until=UNTIL, threads=threads, memory=int(gib * GIB))
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    np.save(result, np.stack([tree.parents.view(np.float32), tree.heights]).view(np.uint32))
    return {
        "gib": gib,
        "seconds": seconds,
        "edges per second": len(graph.edges) / seconds,
        "merges": float(np.isfinite(tree.heights).sum()),
        "peak GiB": peak[0] / GIB,
    }


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


if __name__ == "__main__":
    main()
