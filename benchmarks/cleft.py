"""CREMI's cleft distances, beside two distance transforms of the whole volume by scipy or edt.

    python benchmarks/cleft.py [--quick] [--rounds N]

125 sections of 1250 x 1250 voxels of 40 x 4 x 4 nm hold sheets across random planes, 0.5 % of the
volume; the prediction is the sheets moved and thinned, without one in seven, and with one more
where none is. Ours is timed `--rounds` times, the others once at that size, for they take long.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import edt
import numpy as np
from scipy.ndimage import distance_transform_edt

from emseg.evaluation.cremi_distance import cremi_distance

ROUNDS = 3
SHAPE, QUICK = (125, 1250, 1250), (32, 512, 512)
VOXEL_SIZE = (40.0, 4.0, 4.0)
# A cleft of some 400 nm across and 30 nm thick.
RADIUS, THICKNESS = (150.0, 300.0), (12.0, 24.0)
SHARE = 0.005
# How far a prediction is from its cleft, in nm along each axis; of seven, which is missed or false.
SHIFT = 12.0
MISSED, MADE_UP = 2, 5

NAMES = ["cremi_adgt", "cremi_adf", "cremi_false_positives", "cremi_false_negatives"]


def ours(segmentation: np.ndarray, truth: np.ndarray) -> list[float]:
    found = cremi_distance(segmentation, truth, voxel_size=VOXEL_SIZE)
    return [found[name] for name in NAMES]


def by_transforms(
    transform: Callable[[np.ndarray], np.ndarray], segmentation: np.ndarray, truth: np.ndarray
) -> list[float]:
    """The same numbers, with the distances of all voxels and then those of the masks."""
    predicted, true = (segmentation > 0) & (truth != -1), truth > 0
    found = transform(~true)[predicted].astype(np.float64)
    missed = transform(~predicted)[true].astype(np.float64)
    false = [float((one > 200.001).sum()) for one in (found, missed)]
    return [float(found.mean()), float(missed.mean()), *false]


def scipy_transform(background: np.ndarray) -> np.ndarray:
    return distance_transform_edt(background, sampling=VOXEL_SIZE)


def edt_transform(background: np.ndarray) -> np.ndarray:
    return edt.edt(background, anisotropy=VOXEL_SIZE, black_border=False)


def with_scipy(segmentation: np.ndarray, truth: np.ndarray) -> list[float]:
    return by_transforms(scipy_transform, segmentation, truth)


def with_edt(segmentation: np.ndarray, truth: np.ndarray) -> list[float]:
    return by_transforms(edt_transform, segmentation, truth)


SUBJECTS = {"emseg": ours, "edt": with_edt, "scipy": with_scipy}


def make(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(prediction uint8, truth int8) with sheets until they fill the share of the volume."""
    rng = np.random.default_rng(0)
    truth, prediction = np.zeros(shape, np.int8), np.zeros(shape, np.uint8)
    while np.count_nonzero(truth[:, ::8, ::8]) < SHARE * truth[:, ::8, ::8].size:
        for number in range(7):
            centre, normal = rng.random(3) * shape * VOXEL_SIZE, rng.normal(size=3)
            normal[0] /= 3  # most are seen across their edge
            normal /= np.linalg.norm(normal)
            radius, thickness = rng.uniform(*RADIUS), rng.uniform(*THICKNESS)
            if number != MADE_UP:
                paint(truth, centre, normal, radius, thickness)
            if number != MISSED:
                centre = centre + rng.normal(size=3) * SHIFT
                paint(prediction, centre, normal, 0.95 * radius, 0.9 * thickness)
    return prediction, truth


def paint(
    mask: np.ndarray, centre: np.ndarray, normal: np.ndarray, radius: float, thickness: float
) -> None:
    """Sets the voxels of a disk, in nm."""
    reach = [radius / size + 1 for size in VOXEL_SIZE]
    sides = list(zip(centre / VOXEL_SIZE, reach, mask.shape, strict=True))
    low = [max(0, int(at - by)) for at, by, _ in sides]
    high = [min(end, int(at + by) + 1) for at, by, end in sides]
    places = np.ogrid[tuple(map(slice, low, high))]
    offsets = [p * size - at for p, size, at in zip(places, VOXEL_SIZE, centre, strict=True)]
    across = sum(part * way for part, way in zip(offsets, normal, strict=True))
    square = sum(part * part for part in offsets)
    inside = (abs(across) <= thickness) & (square - across**2 <= radius**2)
    mask[tuple(map(slice, low, high))][inside] = 1


def timed(
    prediction: np.ndarray, truth: np.ndarray, rounds: dict[str, int]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The median seconds of each, taken in turns, and what they return."""
    seconds: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    values = {}
    ours(prediction[:1], truth[:1])  # compiles
    for turn in range(max(rounds.values())):
        for name, subject in SUBJECTS.items():
            if turn < rounds[name]:
                start = time.perf_counter()
                values[name] = subject(prediction, truth)
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}, values


def in_child(name: str, shape: tuple[int, ...]) -> float:
    """The peak memory in MB, in a process of its own, over that with the volumes made."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawned) as pool:
        return pool.submit(_peak, name, shape).result()


def _peak(name: str, shape: tuple[int, ...]) -> float:
    prediction, truth = make(shape)
    SUBJECTS[name](prediction[:1], truth[:1])
    Path("/proc/self/clear_refs").write_text("5")  # from here on a new peak counts
    before = _memory("VmRSS")
    SUBJECTS[name](prediction, truth)
    return _memory("VmHWM") - before


def _memory(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith(f"{entry}:")]
    return int(found.split()[1]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    shape = QUICK if arguments.quick else SHAPE
    prediction, truth = make(shape)
    rounds = dict.fromkeys(SUBJECTS, arguments.rounds)
    if not arguments.quick:
        rounds |= {"edt": 1, "scipy": 1}
    seconds, values = timed(prediction, truth, rounds)
    shares = [100 * float((mask > 0).mean()) for mask in (truth, prediction)]
    del prediction, truth
    # At full size scipy's memory is left out: it would take another transform of minutes.
    subjects = SUBJECTS if arguments.quick else ("emseg", "edt")
    peaks = {name: in_child(name, shape) for name in subjects}
    print(f"{shape}: {shares[0]:.2f} % true, {shares[1]:.2f} % predicted")
    print(f"{'':6} {'seconds':>8} {'rounds':>6} {'peak MB':>8}  {', '.join(NAMES)}")
    for name in SUBJECTS:
        numbers = ", ".join(f"{value:.9g}" for value in values[name])
        peak = f"{peaks[name]:8.0f}" if name in peaks else f"{'-':>8}"
        print(f"{name:6} {seconds[name]:8.3f} {rounds[name]:6} {peak}  {numbers}")
    size = "x".join(map(str, shape))
    result = {
        "benchmark": "cleft",
        "ratios": {size: round(seconds["scipy"] / seconds["emseg"], 1)},
        "ratios_to_edt": {size: round(seconds["edt"] / seconds["emseg"], 1)},
        "equal": bool(np.allclose(values["emseg"], values["scipy"], rtol=1e-9, atol=0)),
        "peak_memory_mb": round(peaks["emseg"]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
