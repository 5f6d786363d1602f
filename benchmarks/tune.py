"""How fast the trials of a study are, beside as many decodes by waterz scored by scikit-image.

    python benchmarks/tune.py [--quick] [--data FOLDER] [--shape Z Y X] [--queue 0|256]

Emseg's run as tune runs them: one after the other in one child, which keeps fragments, graphs and
counts; the child and its kernels are warm, but it has not seen the volume. For waterz the volume
lies in memory. Both score with adapted Rand error and variation of information. The engines take
turns and the median of three counts; a waterz that takes more than a minute runs once. Scores are
compared, also with those of emseg's labels, decoded and scored one by one. waterz's exact queue (0)
takes equal scores in any order; its queue of 256 bins takes the first first. With a high threshold
of 1 waterz takes most of its time, hence a ratio without such trials too. Affinities are made of
the real objects in FOLDER, see affinities.py.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from engines import LONG, ROUNDS, alone
from trials import Parameters, full_trials, prepare_study

from emseg.blocks.child import ChildWorker
from emseg.config.schema_data import VolumeConfig
from emseg.stages.decode_job import DecodeJob
from emseg.stages.sources import open_sources
from emseg.stages.trial import Task, score_curve, warm_up

SHAPE, QUICK = (64, 256, 256), (32, 128, 128)
TOY = (16, 32, 32)
# The space on the tutorial page of SNEMI3D, in its order.
SPACE: dict[str, list[Any]] = {
    "merge_function": [f"aff{quantile}_his256" for quantile in (85, 75, 50, 25, 15)],
    "thresholds": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "aff_threshold.0": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5],
    "aff_threshold.1": [0.7, 0.8, 0.9, 1.0],
}
TRIALS = 25
LEAF = {"_target_": "emseg.decoding.agglomerate.agglomerate", "aff_threshold": [0.1, 0.999]}
METRICS = {
    "rand": {"_target_": "emseg.evaluation.adapted_rand.adapted_rand", "variant": "skimage"},
    "voi": {"_target_": "emseg.evaluation.voi.voi"},
}
NAMES = ("adapted_rand_skimage", "voi_sum")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--data", default=os.environ.get("EMSEG_TEST_DATA"))
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--queue", type=int, choices=(0, 256), default=0, help="waterz's")
    arguments = parser.parse_args()
    shape = QUICK if arguments.quick else tuple(arguments.shape)
    sets = drawn()
    seconds: dict[str, list[np.ndarray]] = {"emseg": [], "waterz": []}
    with tempfile.TemporaryDirectory() as name:
        folder, toy = Path(name) / "volume", Path(name) / "toy"
        alone(prepare_study, folder, shape, arguments.data)
        alone(prepare_study, toy, TOY, arguments.data)
        for _ in range(ROUNDS):
            spent, rands = run_trials(task(folder, NAMES[0]), task(toy, NAMES[0]), sets)
            seconds["emseg"].append(spent)
            if not seconds["waterz"] or seconds["waterz"][0].sum() < LONG:
                spent, theirs = columns(alone(full_trials, "waterz", folder, sets, arguments.queue))
                seconds["waterz"].append(spent)
        _, informations = run_trials(task(folder, NAMES[1]), task(toy, NAMES[1]), sets)
        spent, own = columns(alone(full_trials, "emseg", folder, sets))
        seconds["emseg, one by one"] = [spent]
    ours = np.stack([rands, informations], axis=1)
    medians = {engine: np.median(rounds, axis=0) for engine, rounds in seconds.items()}
    print_trials(sets, ours, theirs, medians)
    result = {
        "benchmark": "tune",
        "ratio": ratio(seconds, np.full(len(sets), True)),
        "ratio_below_high_1": ratio(seconds, np.array([s["aff_threshold.1"] < 1 for s in sets])),
        "max_difference_own": float(np.abs(ours - own).max()),
        "max_difference_waterz": float(np.abs(ours - theirs).max()),
    }
    print_sums(shape, sets, seconds)
    print(json.dumps(result))


def drawn() -> list[Parameters]:
    """The trials' parameters: one after the other, every key in its order uniformly from seed 0."""
    rng = np.random.default_rng(0)
    return [
        {key: values[rng.integers(len(values))] for key, values in SPACE.items()}
        for _ in range(TRIALS)
    ]


def task(folder: Path, metric: str) -> Task:
    """What tune hands to its trials, for the volume in a folder of `prepare_study`."""
    labels = str(folder / "labels.h5")
    (source,) = open_sources({"made": VolumeConfig(image=labels, label=labels)}, split="test")
    return Task(DecodeJob(folder / "prediction.h5", LEAF, None), source, METRICS, metric)


def run_trials(own: Task, toy: Task, sets: list[Parameters]) -> tuple[np.ndarray, np.ndarray]:
    """The seconds and the score of each trial, in a child that is warm."""
    found = []
    with ChildWorker() as child:
        child.call(warm_up, [toy])
        run_trial(child, toy, sets[0])
        for parameters in sets:
            start = time.perf_counter()
            score = run_trial(child, own, parameters)
            found.append((time.perf_counter() - start, score))
    return columns(found)


def columns(found: list[tuple[float, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """The seconds of all trials, and their scores."""
    seconds, scores = zip(*found, strict=True)
    return np.array(seconds), np.array(scores)


def run_trial(child: ChildWorker, own: Task, parameters: Parameters) -> float:
    """The score of one trial, asked for as tune asks: thresholds are swept, here over one."""
    sampled = {key: value for key, value in parameters.items() if key != "thresholds"}
    ((_, found),) = child.call(
        score_curve, [own], sampled, ("thresholds", [parameters["thresholds"]])
    )
    return found


def ratio(seconds: dict[str, list[np.ndarray]], chosen: np.ndarray) -> float:
    """How many times as long as emseg's trials those of waterz take, the chosen ones together."""
    waterz, emseg = (
        statistics.median(float(times[chosen].sum()) for times in seconds[name])
        for name in ("waterz", "emseg")
    )
    return round(waterz / emseg, 2)


def print_trials(
    sets: list[Parameters], ours: np.ndarray, theirs: np.ndarray, seconds: dict[str, np.ndarray]
) -> None:
    """The table: each trial's scores and seconds, by both engines, and how far scores differ."""
    print(f"{'trial':28} {'adapted Rand (waterz)':>23} {'VOI (waterz)':>22} {'s (waterz)':>16}")
    for at, parameters in enumerate(sets):
        told = " ".join(f"{value}" for value in parameters.values())
        rand, information = (
            f"{a:.6f} ({b:.6f})" for a, b in zip(ours[at], theirs[at], strict=True)
        )
        times = f"{seconds['emseg'][at]:.3f} ({seconds['waterz'][at]:.2f})"
        print(f"{told:28} {rand:>23} {information:>22} {times:>16}")
    off = np.abs(ours - theirs)
    largest, middle = off.max(axis=0), np.median(off, axis=0)
    print(
        f"difference from waterz: adapted Rand at most {largest[0]:.2g}, median {middle[0]:.2g}; "
        f"VOI at most {largest[1]:.2g}, median {middle[1]:.2g}"
    )


def print_sums(
    shape: tuple[int, ...], sets: list[Parameters], seconds: dict[str, list[np.ndarray]]
) -> None:
    """The seconds that all trials take together."""
    pairs = {tuple(parameters[f"aff_threshold.{i}"] for i in (0, 1)) for parameters in sets}
    print(f"{'x'.join(map(str, shape))}, {len(sets)} trials, {len(pairs)} watersheds:")
    for engine, rounds in seconds.items():
        spent = statistics.median(float(times.sum()) for times in rounds)
        print(f"  {engine:18} {spent:8.2f} s, {len(rounds)} times")


if __name__ == "__main__":
    main()
