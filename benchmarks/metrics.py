"""How fast adapted Rand error and variation of information are, beside scikit-image's.

python benchmarks/metrics.py [--quick] [--data FOLDER]

FOLDER holds the real volumes (the default is what EMSEG_TEST_DATA names); without it the truth is
synthetic. The segmentation is the truth, cut, merged, moved and left out in places.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import fastremap
import h5py
import numpy as np
from skimage.metrics import adapted_rand_error, variation_of_information

from emseg.evaluation import contingency
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.evaluation.voi import voi
from emseg.synthetic.synthesize import synthesize

ROUNDS = 3
SHAPE, QUICK = (100, 1024, 1024), (32, 256, 256)
# A supervoxel's edges, about: where objects may be cut.
CELL = (32, 96, 96)


def ours(segmentation: np.ndarray, truth: np.ndarray) -> list[float]:
    table = contingency(segmentation, truth)
    rand = adapted_rand(None, None, variant="skimage", table=table)
    information = voi(None, None, table=table)
    return [rand["adapted_rand_skimage"], information["voi_split"], information["voi_merge"]]


def theirs(segmentation: np.ndarray, truth: np.ndarray) -> list[float]:
    error, _, _ = adapted_rand_error(truth, segmentation, ignore_labels=(0,))
    split, merge = variation_of_information(truth, segmentation, ignore_labels=(0,))
    return [float(error), float(split), float(merge)]


SUBJECTS: dict[str, Callable[[np.ndarray, np.ndarray], list[float]]] = {
    "emseg": ours,
    "scikit-image": theirs,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small volume")
    parser.add_argument("--data", default=os.environ.get("EMSEG_TEST_DATA"))
    arguments = parser.parse_args()
    shape = QUICK if arguments.quick else SHAPE
    truth, origin = make_truth(shape, arguments.data)
    segmentation = perturbed(truth)
    with tempfile.TemporaryDirectory() as folder:
        for name, labels in (("segmentation", segmentation), ("truth", truth)):
            np.save(Path(folder) / f"{name}.npy", labels)
        peaks = {name: in_child(name, folder) for name in SUBJECTS}
    seconds, values = timed(segmentation, truth)
    pairs = len(contingency(segmentation, truth).counts)
    print(f"{origin}: {pairs} pairs of ids, {len(np.unique(segmentation))} segments")
    print(f"{'':12}  {'seconds':>8}  {'peak MB':>8}  adapted Rand, VOI split, VOI merge")
    for name in SUBJECTS:
        numbers = ", ".join(f"{value:.9f}" for value in values[name])
        print(f"{name:12}  {seconds[name]:8.3f}  {peaks[name]:8.0f}  {numbers}")
    ratio = seconds["scikit-image"] / seconds["emseg"]
    result = {
        "benchmark": "metrics",
        "ratios": {"x".join(map(str, shape)): round(ratio, 1)},
        "equal": bool(np.allclose(values["emseg"], values["scikit-image"], rtol=0, atol=1e-9)),
        "peak_memory_mb": round(peaks["emseg"]),
    }
    print(json.dumps(result))


def timed(
    segmentation: np.ndarray, truth: np.ndarray
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The median seconds of each, taken in turns, and what they return."""
    seconds: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    values = {}
    ours(segmentation[:1], truth[:1])  # compiles
    for _ in range(ROUNDS):
        for name, subject in SUBJECTS.items():
            start = time.perf_counter()
            values[name] = subject(segmentation, truth)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}, values


def in_child(name: str, folder: str) -> float:
    """The peak memory in MB, in a process of its own, over that with the volumes loaded."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawned) as pool:
        return pool.submit(_peak, name, folder).result()


def _peak(name: str, folder: str) -> float:
    segmentation, truth = (np.load(Path(folder) / f"{n}.npy") for n in ("segmentation", "truth"))
    SUBJECTS[name](segmentation[:1], truth[:1])
    Path("/proc/self/clear_refs").write_text("5")  # from here on a new peak counts
    before = _memory("VmRSS")
    SUBJECTS[name](segmentation, truth)
    return _memory("VmHWM") - before


def _memory(entry: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = [line for line in lines if line.startswith(f"{entry}:")]
    return int(found.split()[1]) * 1024 / 1e6


def make_truth(shape: tuple[int, ...], data: str | None) -> tuple[np.ndarray, str]:
    """Labels uint32 of the shape, mirrored at their end as often as it takes, and their name.

    Their ids are 0 to the number of objects: raw ones would cost scikit-image a table of that size.
    """
    file = data and Path(data) / "pinky40" / "connectomics_512.h5"
    if file and file.is_file():
        with h5py.File(file) as stored:
            labels, origin = stored["volumes/labels/neuron_ids"][: shape[0]], file.name
    else:
        small = tuple(min(size, 256) for size in shape)
        labels, origin = synthesize(small, seed=0).labels, "synthetic"
    labels, _ = fastremap.renumber(labels[tuple(map(slice, shape))], preserve_zero=True)
    beyond = [(0, size - there) for size, there in zip(shape, labels.shape, strict=True)]
    return np.pad(labels, beyond, mode="symmetric").astype(np.uint32), origin


def perturbed(truth: np.ndarray) -> np.ndarray:
    """A segmentation uint32: objects in wavy cells keep their name, or are cut, merged or lost."""
    rng = np.random.default_rng(0)
    ids, objects = np.unique(truth, return_inverse=True)
    z, y, x = np.ogrid[tuple(map(slice, truth.shape))]
    waves = [wave(y, 37), wave(x, 23), wave(y, 31)]
    places = [(at + by) // size for at, by, size in zip((z, y, x), waves, CELL, strict=True)]
    counts = [int(place.max()) + 1 for place in places]
    cell = (places[0] * counts[1] + places[1]) * counts[2] + places[2]
    cells = int(np.prod(counts))
    names = np.repeat(np.arange(1, len(ids) + 1), cells)
    fate = rng.random(len(names))
    cut, merged, lost = (fate > 0.75), (fate > 0.92), (fate > 0.97)
    names[cut] = len(ids) + 1 + np.flatnonzero(cut)
    names[merged] = rng.integers(1, len(ids) + 1, merged.sum())
    names[lost] = 0
    parts = objects.reshape(truth.shape).astype(np.int32) * cells + cell.astype(np.int32)
    # Borders are never quite where the truth has them.
    return np.roll(names.astype(np.uint32)[parts], (1, 2), axis=(1, 2))


def wave(along: np.ndarray, length: float) -> np.ndarray:
    return (8 + 8 * np.sin(along / length)).astype(np.int32)


if __name__ == "__main__":
    main()
