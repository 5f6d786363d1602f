"""How fast watershed and agglomeration are beside waterz's, on how much memory, and if they agree.

    python benchmarks/agglomerate.py [--quick] [--data FOLDER] [--fib25 PREDICTION.h5]
                                     [--threads 1|2|both]

Every run has a process of its own; engines take turns and the median of three counts, only that a
waterz that takes more than a minute runs once. Seconds are those from affinities in memory to
labels, with emseg's kernels compiled before. The one-core run is kept to one core. Peaks are over
what importing leaves, from an array (loaded in both) and from a file, which emseg reads in blocks
(with memory_limit as printed) and waterz as a whole. Affinities are made of the real objects in
FOLDER, see affinities.py, or a network's: with PREDICTION.h5, emseg's of FIB-25.

waterz's queue is the exact one, which takes equal scores in any order; that of 256 bins takes the
first first; emseg has an order of its own (docs/decoding.md). Histograms have 256 scores, so that
partitions are equal only for the mean. Voxels whose strongest affinities are equal (`ties`) may go
to another fragment in waterz.
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines import LONG, ROUNDS, alone, compare, measure, prepare, prepare_noise, sweep_seconds

Shape = tuple[int, int, int]

SHAPES: list[Shape] = [(64, 256, 256), (100, 512, 512), (100, 1024, 1024)]
QUICK: Shape = (32, 128, 128)
# The volume for the sweep, and the one of noise.
SWEPT: Shape = (100, 512, 512)
NOISE: Shape = (64, 256, 256)
SCORERS = ("mean", "aff85_his256")
# GiB for a decode from a file: blocks are an eighth of it.
FILE_MEMORY_LIMIT = 4.0


@dataclass
class Case:
    """What was measured of one volume and one scorer, by run: waterz, 2 threads, 1 thread, …"""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    segments: tuple[int, int] = (0, 0)
    # The variation of information to waterz, with its exact queue and with that of 256 bins.
    voi: dict[str, float] = field(default_factory=dict)

    def median(self, run: str) -> float:
        return statistics.median(self.seconds[run])

    def ratio(self, run: str) -> float:
        return round(self.median("waterz") / self.median(run), 2)

    def note(self, run: str, found: tuple[float, float]) -> None:
        """Keeps the seconds and the peak (GB) of one more run."""
        seconds, peak = found
        self.seconds.setdefault(run, []).append(seconds)
        self.peaks[run] = max(self.peaks.get(run, 0.0), peak)


def main() -> None:
    arguments = parse()
    threads = {"1": [1], "2": [2], "both": [2, 1]}[arguments.threads]
    shapes = [QUICK] if arguments.quick else SHAPES
    inputs: list[tuple[str, Shape | None]] = [(_name(shape), shape) for shape in shapes]
    if arguments.fib25:
        inputs.append(("fib25", None))
    cases: dict[str, Case] = {}
    sweeps: dict[str, dict[str, float]] = {}
    print_head(threads)
    for name, shape in inputs:
        # Volumes are large: one at a time lies on the disk.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "affinities"
            origin = arguments.data if shape else arguments.fib25
            facts = alone(prepare, path, shape, origin)
            print(f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in facts.items()))
            for scorer in SCORERS:
                case = cases[f"{name} {scorer}"] = run_case(path, scorer, threads)
                print_case(scorer, case, threads)
            if shape == (QUICK if arguments.quick else SWEPT):
                sweeps = {s: run_sweep(path, s, max(threads)) for s in SCORERS}
    noise = run_noise(QUICK if arguments.quick else NOISE, max(threads))
    print(json.dumps(report(cases, threads, sweeps, noise)))


def parse() -> argparse.Namespace:
    kept = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kept)
    parser.add_argument("--quick", action="store_true", help="one small volume")
    parser.add_argument("--data", default=os.environ.get("EMSEG_TEST_DATA"))
    parser.add_argument("--fib25", help="a network's prediction, decoded beside those made")
    parser.add_argument("--threads", choices=("1", "2", "both"), default="both")
    return parser.parse_args()


def run_case(path: Path, scorer: str, threads: list[int]) -> Case:
    """One volume and one scorer, the engines in turns; then from a file, and the comparison."""
    case = Case()
    of = {"merge_function": scorer}
    array, file = path.with_suffix(".npy"), path.with_suffix(".h5")
    ours, theirs = path.with_name("ours.npy"), path.with_name("theirs.npy")
    for _ in range(ROUNDS):
        if max(case.seconds.get("waterz", [0.0])) < LONG:
            case.note("waterz", alone(measure, "waterz", array, theirs, **of))
        for count in threads:
            found = alone(measure, "emseg", array, ours, threads=count, **of)
            case.note(str(count), found)
    case.note("waterz, file", alone(measure, "waterz", file, None, **of))
    limits = {"threads": max(threads), "gib": FILE_MEMORY_LIMIT}
    case.note("emseg, file", alone(measure, "emseg", file, None, **limits, **of))
    *segments, case.voi["exact"] = alone(compare, ours, theirs)
    case.segments = (segments[0], segments[1])
    if scorer != "mean":
        case.note("waterz, bins", alone(measure, "waterz", array, theirs, queue=256, **of))
        *_, case.voi["bins"] = alone(compare, ours, theirs)
    return case


def run_sweep(path: Path, scorer: str, threads: int) -> dict[str, float]:
    """The ratios of nine thresholds to one and to the largest; seconds are printed."""
    found = alone(sweep_seconds, path.with_suffix(".npy"), merge_function=scorer, threads=threads)
    to_one, to_largest = found["nine"] / found["one"], found["nine"] / found["largest"]
    print(
        f"  {scorer}, {threads} threads: thresholds 0.1 to 0.9 {found['nine']:.2f} s, "
        f"0.5 alone {found['one']:.2f} s ({to_one:.2f}x), "
        f"0.9 alone {found['largest']:.2f} s ({to_largest:.2f}x)"
    )
    return {"to_one": round(to_one, 2), "to_largest": round(to_largest, 2)}


def run_noise(shape: Shape, threads: int) -> float:
    """GB at the peak of emseg's decode of independent noise."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npy"
        alone(prepare_noise, path, shape)
        seconds, peak = alone(
            measure, "emseg", path, None, threads=threads, merge_function="aff85_his256"
        )
    print(f"noise {_name(shape)}, aff85_his256: {seconds:.2f} s, peak {peak:.2f} GB")
    return round(peak, 3)


def print_head(threads: list[int]) -> None:
    """The table's columns: seconds, ratios to waterz, segments, differences, and peaks."""
    print("in brackets: waterz; VOI: to waterz, and to waterz with a queue of 256 bins; * ran once")
    columns = ["waterz s", *(f"{count}-thread s" for count in threads), "segments", "VOI, bits"]
    columns += ["GB, array", f"GB, file, limit {FILE_MEMORY_LIMIT:g} GiB"]
    print(_row("", columns))


def print_case(scorer: str, case: Case, threads: list[int]) -> None:
    """A line of the table."""
    once = "*" if len(case.seconds["waterz"]) < ROUNDS else ""
    cells = [f"{case.median('waterz'):.2f}{once}"]
    cells += [f"{case.median(str(c)):.2f}  {case.ratio(str(c)):.2f}x" for c in threads]
    cells.append("{} ({})".format(*case.segments))
    cells.append(", ".join(f"{bits:.2g}" for bits in case.voi.values()))
    for ours, theirs in peak_runs(threads):
        peak, other = case.peaks[ours], case.peaks[theirs]
        cells.append(f"{peak:.2f} ({other:.2f})  {other / peak:.2f}x")
    print(_row(scorer, cells), flush=True)


def peak_runs(threads: list[int]) -> list[tuple[str, str]]:
    """Emseg's run and waterz's whose peaks are compared: from an array, and from a file."""
    return [(str(max(threads)), "waterz"), ("emseg, file", "waterz, file")]


def report(
    cases: dict[str, Case], threads: list[int], sweeps: dict[str, Any], noise: float
) -> dict[str, Any]:
    """The line of JSON."""
    memory = {}
    for place, (ours, theirs) in zip(("array", "file"), peak_runs(threads), strict=True):
        for name, case in cases.items():
            memory[f"{name}, {place}"] = round(case.peaks[theirs] / case.peaks[ours], 2)
    voi = {name: case.voi for name, case in cases.items()}
    return {
        "benchmark": "agglomerate",
        "ratios": {n: case.ratio("2") for n, case in cases.items()} if 2 in threads else {},
        "one_core": {n: case.ratio("1") for n, case in cases.items()} if 1 in threads else {},
        "voi": voi,
        "peak_memory_ratio": memory,
        "nine_thresholds": sweeps,
        "noise_peak_gb": noise,
    }


def _row(name: str, cells: list[str]) -> str:
    return f"  {name:13}" + "".join(f"{cell:>24}" for cell in cells)


def _name(shape: Shape) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    main()
