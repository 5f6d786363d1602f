"""How fast watershed and agglomeration are beside waterz's, on how much memory, and if they agree.

    python benchmarks/agglomerate.py [--quick] [--data FOLDER] [--fib25 PREDICTION.h5]
                                     [--threads 1|2|both]

Every run has a process of its own; engines take turns and the median of three counts, only that a
waterz that takes more than a minute runs once. Seconds are those from affinities in memory to
labels, with emseg's kernels compiled before. The one-core run is kept to one core. Peaks are over
what importing leaves, from an array (loaded in both) and from a file, which emseg reads in blocks
(with memory_limit as printed) and waterz as a whole. Affinities are made of the real objects in
FOLDER, see affinities.py, or a network's: with PREDICTION.h5, emseg's of FIB-25.
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines import ROUNDS, alone, compare, measure, prepare, prepare_noise, sweep_seconds

Shape = tuple[int, int, int]

SHAPES: list[Shape] = [(64, 256, 256), (100, 512, 512), (100, 1024, 1024)]
QUICK: Shape = (32, 128, 128)
# The volume for the sweep, and the one of noise.
SWEPT: Shape = (100, 512, 512)
NOISE: Shape = (64, 256, 256)
SCORERS = ("mean", "aff85_his256")
LONG = 60.0
# GiB for a decode from a file: blocks are an eighth of it.
FILE_MEMORY_LIMIT = 4.0


@dataclass
class Case:
    """What was measured of one volume and one scorer, by run: waterz, 2 threads, 1 thread."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    file_peaks: dict[str, float] = field(default_factory=dict)
    segments: tuple[int, int] = (0, 0)
    voi: float = 0.0

    def median(self, run: str) -> float:
        return statistics.median(self.seconds[run])

    def ratio(self, run: str) -> float:
        return round(self.median("waterz") / self.median(run), 2)


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
    array, file = path.with_suffix(".npy"), path.with_suffix(".h5")
    results = {run: path.with_name(f"{run}.npy") for run in ("waterz", "emseg")}
    for _ in range(ROUNDS):
        if max(case.seconds.get("waterz", [0.0])) < LONG:
            _note(case, "waterz", alone(measure, "waterz", array, results["waterz"], **_of(scorer)))
        for count in threads:
            found = alone(measure, "emseg", array, results["emseg"], threads=count, **_of(scorer))
            _note(case, str(count), found)
    case.file_peaks["waterz"] = alone(measure, "waterz", file, None, **_of(scorer))[1]
    case.file_peaks["emseg"] = alone(
        measure,
        "emseg",
        file,
        None,
        threads=max(threads),
        gib=FILE_MEMORY_LIMIT,
        **_of(scorer),
    )[1]
    theirs, ours, case.voi = alone(compare, results["emseg"], results["waterz"])
    case.segments = (theirs, ours)
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
        seconds, peak = alone(measure, "emseg", path, None, threads=threads, **_of("aff85_his256"))
    print(f"noise {_name(shape)}, aff85_his256: {seconds:.2f} s, peak {peak:.2f} GB")
    return round(peak, 3)


def print_head(threads: list[int]) -> None:
    """The table's columns: seconds, ratios to waterz, segments, and peaks in GB."""
    columns = [f"{count} thread{'s' * (count > 1)}    ratio" for count in threads]
    print(
        f"{'':14}  {'waterz s':>9}  {'  '.join(columns)}  {'segments (waterz)':>20}  "
        f"{'VOI bits':>9}  {'GB, array (waterz)':>18}  "
        f"{f'GB, file, limit {FILE_MEMORY_LIMIT:g} GiB (waterz)':>18}"
    )


def print_case(scorer: str, case: Case, threads: list[int]) -> None:
    """A line of the table; a star where waterz ran once."""
    once = "*" if len(case.seconds["waterz"]) < ROUNDS else " "
    ours = [f"{case.median(str(c)):9.2f} {case.ratio(str(c)):7.2f}x" for c in threads]
    segments = f"{case.segments[0]} ({case.segments[1]})"
    peaks = [
        f"{found[run]:.2f} ({found['waterz']:.2f}) {found['waterz'] / found[run]:.1f}x"
        for found, run in ((case.peaks, str(max(threads))), (case.file_peaks, "emseg"))
    ]
    print(
        f"  {scorer:12}  {case.median('waterz'):8.2f}{once}  {'  '.join(ours)}  {segments:>20}  "
        f"{case.voi:9.2g}  {peaks[0]:>18}  {peaks[1]:>18}",
        flush=True,
    )


def report(
    cases: dict[str, Case], threads: list[int], sweeps: dict[str, Any], noise: float
) -> dict[str, Any]:
    """The line of JSON."""
    memory = {}
    for name, case in cases.items():
        best = str(max(threads))
        memory[f"{name} array"] = round(case.peaks["waterz"] / case.peaks[best], 2)
        memory[f"{name} file"] = round(case.file_peaks["waterz"] / case.file_peaks["emseg"], 2)
    return {
        "benchmark": "agglomerate",
        "ratios": {n: case.ratio("2") for n, case in cases.items()} if 2 in threads else {},
        "one_core": {n: case.ratio("1") for n, case in cases.items()} if 1 in threads else {},
        "equal": {name: case.voi == 0 for name, case in cases.items()},
        "peak_memory_ratio": memory,
        "nine_thresholds": sweeps,
        "noise_peak_gb": noise,
    }


def _note(case: Case, run: str, found: tuple[float, float]) -> None:
    seconds, peak = found
    case.seconds.setdefault(run, []).append(seconds)
    case.peaks[run] = max(case.peaks.get(run, 0.0), peak)


def _of(scorer: str) -> dict[str, str]:
    return {"merge_function": scorer}


def _name(shape: Shape) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    main()
