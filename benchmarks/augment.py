"""Samples per second: emseg's augmentation with its EM defects against MONAI's without any.

    python benchmarks/augment.py [--quick]

On one core, from a uint8 volume and int32 labels in memory to a finished float32 image and labels:
`em_cleft` against MONAI's nearest at the same probabilities, with an elastic warp in both and in
neither. Then `em_neuron` with 12 affinities from a loader of two workers. Then what it costs to
reject patches without clefts, beside the formula for their number. Last, what each transform takes
where it fires.

Most of MONAI's mean is the elastic warp, which fires in 3 of 10 samples. So that the mean is
steady, a round draws samples in which it fires and others in which it does not, weighed 3 : 7.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.data.meta_obj import set_track_meta
from monai_peer import ELASTIC, MonaiSamples, monai_cleft, monai_neuron, same_results

from emseg.config.chain import read_yaml
from emseg.config.choices import conf_folder
from emseg.config.construction import build
from emseg.data.augment import OneOf, Pipeline, Sample, Transform
from emseg.data.dataset import PatchDataset
from emseg.data.labelled import LabelledVolume
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.synthetic.synthesize import synthesize
from emseg.training.datamodule import SampleStream
from emseg.volumes import from_array

VOLUME, CLEFT, NEURON = (32, 512, 512), (18, 256, 256), (16, 224, 224)
ROUNDS, WORKERS = 3, 2
# Samples in which the warp fires, and in which it does not, of ours and of MONAI's a round.
COUNTS = {"ours": (30, 70), "MONAI": (7, 13)}
QUICK_COUNTS = {"ours": (6, 14), "MONAI": (1, 3)}


class NoTarget(Target):
    """Stands where no target is to be timed."""

    names = ()

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.empty((0, *labels.shape), np.uint8), np.empty((0, *labels.shape), bool)


def shipped(group: str, name: str) -> dict[str, Any]:
    """The node of a choice in conf/."""
    return read_yaml(conf_folder() / group / f"{name}.yaml")


def cleft(elastic: float | None) -> Pipeline:
    """em_cleft with another probability of its warp; None takes it away."""
    node = shipped("augment", "em_cleft")
    changed = None if elastic is None else {**node["transforms"]["elastic"], "p": elastic}
    node["transforms"]["elastic"] = changed
    return build(node, kind="augment")


def patches(
    volume: LabelledVolume,
    size: Sequence[int],
    augment: Pipeline | None = None,
    target: Any = None,
    reject: RejectSampling | None = None,
) -> PatchDataset:
    """Samples of one volume, of no target where none is given."""
    return PatchDataset(
        [volume],
        patch_size=size,
        seed=0,
        target=target or NoTarget(),
        augment=augment,
        reject=reject,
    )


def cpu_seconds(samples: Any, first: int, count: int) -> float:
    """Of a sample, all threads together: what it takes on one core that nobody else uses."""
    start = time.process_time()
    for number in range(first, first + count):
        samples[number]
    return (time.process_time() - start) / count


def one_core(volume: LabelledVolume, counts: dict[str, tuple[int, int]]) -> dict[str, list[float]]:
    """Samples per second, a number a round, of both with the warp and without."""
    plain, none = patches(volume, CLEFT), NoTarget()
    peers = {p: MonaiSamples(plain, *[monai_cleft(p)] * 2, none) for p in (1.0, 0.0, None)}
    mine = {p: patches(volume, CLEFT, cleft(p)) for p in (1.0, 0.0, None)}
    rates: dict[str, list[float]] = {}
    for number in range(-1, ROUNDS):
        for name, samples in (("ours", mine), ("MONAI", peers)):
            fires, rests = counts[name] if number >= 0 else (1, 1)  # the first compiles
            first = 1000 * (number + 1)
            seconds = ELASTIC * cpu_seconds(samples[1.0], first, fires)
            seconds += (1 - ELASTIC) * cpu_seconds(samples[0.0], first + fires, rests)
            without = cpu_seconds(samples[None], first, fires + rests)
            for case, found in (("", seconds), (", no warp", without)):
                rates.setdefault(f"em_cleft{case}: {name}", []).append(1 / found)
    return {name: found[1:] for name, found in rates.items()}


def loaded(volume: LabelledVolume, tens: dict[str, int]) -> dict[str, list[float]]:
    """Samples per second that a loader gives, a number a round; `tens` of samples a round."""
    target = build(shipped("target", "aff12"), kind="target")
    augment = build(shipped("augment", "em_neuron"), kind="augment")
    fired, rested = monai_neuron(1.0), monai_neuron(0.0)
    sides: dict[str, Any] = {
        "ours": patches(volume, NEURON, augment, target),
        "MONAI": MonaiSamples(patches(volume, NEURON), fired, rested, target),
    }
    rates: dict[str, list[float]] = {f"em_neuron loader: {name}": [] for name in sides}
    for _ in range(ROUNDS):
        for name, samples in sides.items():
            stream = SampleStream(samples, batch_size=1, batches_per_epoch=10, num_workers=WORKERS)
            list(stream)  # starts the workers, and ends where the next ten begin
            start = time.perf_counter()
            for _ in range(tens[name]):
                list(stream)
            seconds = time.perf_counter() - start
            rates[f"em_neuron loader: {name}"].append(10 * tens[name] / seconds)
            stream.close()
    return rates


def rejection(volume: LabelledVolume, count: int) -> dict[str, float]:
    """Draws and background of `count` patches, by measure and by formula, and milliseconds.

    The milliseconds are those that an accepted patch takes more than one that nobody judges.
    """
    size_thres, p = 1000, 0.95
    judged = patches(volume, CLEFT, reject=RejectSampling(size_thres, 0.0))
    share = float(np.mean([judged[number]["draws"][1] for number in range(count)]))
    accepted = share + (1 - share) * (1 - p)
    samples = patches(volume, CLEFT, reject=RejectSampling(size_thres, p))
    draws, foreground, _ = np.mean([samples[number]["draws"] for number in range(count)], axis=0)
    bare, more = patches(volume, CLEFT), []
    for number in range(0, count, count // 10):
        found = cpu_seconds(samples, number, count // 10)
        more.append(1e3 * (found - cpu_seconds(bare, number, count // 10)))
    return {
        "patches with foreground": share,
        "draws a patch": draws,
        "draws a patch, formula": 1 / accepted,
        "background share": 1 - foreground,
        "background share, formula": (1 - share) * (1 - p) / accepted,
        "ms an accepted patch": statistics.median(more),
        "ms a draw": statistics.median(more) / draws,
    }


def named(transform: Transform, name: str) -> list[tuple[str, Any]]:
    """The single transforms within pipelines and choices, and their dotted names."""
    if not isinstance(transform, Pipeline | OneOf):
        return [(name, transform)]
    inner = [(f"{name}.{key}", one) for key, one in transform.transforms.items() if one]
    return [single for key, one in inner for single in named(one, key)]


def milliseconds(source: Sample, size: tuple[int, int, int], choice: str) -> dict[str, float]:
    """What each transform takes where it fires, given an image that it may write to."""
    costs = {}
    for name, transform in named(build(shipped("augment", choice), kind="augment"), choice):
        transform, taken = replace(transform, p=1.0), []
        margin = transform.margin(size)
        inside = tuple(slice(0, n + 2 * m) for n, m in zip(size, margin, strict=True))
        for seed in range(11):
            sample = Sample(source.image[:, *inside].copy(), source.labels[inside])
            start = time.process_time()
            transform(sample, size, np.random.default_rng(seed))
            taken.append(1e3 * (time.process_time() - start))
        costs[name] = round(statistics.median(taken), 2)
    return costs


def shown(rates: dict[str, list[float]]) -> dict[str, float]:
    """The medians, printed."""
    for name, found in rates.items():
        line = f"{name:26} {statistics.median(found):8.2f} {min(found):8.2f} {max(found):8.2f}"
        print(line, flush=True)
    return {name: statistics.median(found) for name, found in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    set_track_meta(False)
    made = synthesize(VOLUME, seed=0)
    labels = made.labels.astype(np.int32)
    volume = LabelledVolume(
        image=from_array(made.raw, axes="zyx"), label=from_array(labels, axes="zyx")
    )
    source = Sample(made.raw[np.newaxis], labels)
    same = same_results(source)
    print(f"{'samples per second':26} {'median':>8} {'least':>8} {'most':>8}")
    medians = shown(one_core(volume, QUICK_COUNTS if quick else COUNTS))
    medians |= shown(loaded(volume, {"ours": 4 if quick else 12, "MONAI": 1}))
    clefts = LabelledVolume(volume.image, from_array(made.clefts.astype(np.int32), axes="zyx"))
    rejected = rejection(clefts, 200 if quick else 1000)
    for name, number in rejected.items():
        print(f"rejection: {name:31} {number:8.3f}")
    costs = milliseconds(source, CLEFT, "em_cleft") | milliseconds(source, NEURON, "em_neuron")
    for name, found in costs.items():
        print(f"{name:42} {found:8.2f} ms")
    cases = dict.fromkeys(name.split(":")[0] for name in medians)
    ratios = {
        case: round(medians[f"{case}: ours"] / medians[f"{case}: MONAI"], 1) for case in cases
    }
    report = {"benchmark": "augment", "ratios": ratios, "equal": same, "milliseconds": costs}
    report["rejection"] = {name: round(number, 3) for name, number in rejected.items()}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
