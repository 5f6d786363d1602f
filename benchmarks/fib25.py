"""What the experiments on FIB-25 share: runs that go on where they were, scores, a table of them.

z < 160 of `training_sample2.h5` is for training, 160 to 200 for choosing the decoder's threshold
by the least adapted Rand error, as the tutorial tunes, and z >= 200 is tested, once. (VOI would
choose one object in all where predictions are weak: one body fills most of 160 to 200.)
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from emseg.training.checkpoints import read_checkpoint
from emseg.volumes import open_volume

REPOSITORY = Path(__file__).resolve().parents[1]
CHOOSING, HELD_OUT = (160, 200), (200, 250)
THRESHOLDS = [round(0.02 * step, 2) for step in range(1, 50)]
SCORES = ("adapted_rand_skimage", "voi_split", "voi_merge", "voi_sum", "affinity_auc")
SWEEP = [
    "sweep.name=choosing",
    f"sweep.grid={{thresholds: {THRESHOLDS}}}",
    "sweep.best={adapted_rand_skimage: minimize}",
]
Row = dict[str, float]


def volume(file: Path, *, reach: tuple[int, int] | None = None, **more: object) -> str:
    """A volume of the config, `reach` along z."""
    facts = {"image": f"{file}:volumes/raw", "resolution": [10, 10, 10]} | more
    facts |= {} if reach is None else {"range": list(reach)}
    return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in facts.items()) + "}"


def labelled(data: Path, split: str, reach: tuple[int, int]) -> str:
    """The override that makes a part of the labelled volume the only one of a split."""
    file = data / "training_sample2.h5"
    label, name = f"{file}:volumes/labels/neuron_ids", f"z{reach[0]}"
    return f"data.{split}={volume(file, reach=reach, label=label, name=name)}"


def unlabelled(split: str, volumes: Mapping[str, str]) -> str:
    """The override that makes volumes by name those of a split."""
    return f"data.{split}={{" + ", ".join(f"{key}: {one}" for key, one in volumes.items()) + "}"


def warmed_up(steps: int) -> str:
    """The override that lets the learning rate rise over a tenth of a training."""
    return f"optimization.scheduler.warmup_steps={steps // 10}"


def emseg(tutorial: str, *words: str) -> None:
    """One command line of emseg, done."""
    command = [sys.executable, str(REPOSITORY / "scripts" / "main.py")]
    config = str(REPOSITORY / "tutorials" / tutorial)
    subprocess.run([*command, "--config", config, *words], check=True)


def trained(tutorial: str, experiment: str, steps: int, *words: str) -> Path:
    """The last checkpoint of the experiment's run, which begins, goes on or is there already."""
    words = (*words, f"experiment_name={experiment}", f"optimization.max_steps={steps}")
    there = sorted(Path("outputs", experiment).glob("*/checkpoints/last.ckpt"))
    if not there:
        emseg(tutorial, *words)
    elif read_checkpoint(there[-1])["global_step"] < steps:
        emseg(tutorial, "--checkpoint", str(there[-1]), *words)
    return max(Path("outputs", experiment).glob("*/checkpoints/last.ckpt"))


def results_of(checkpoint: Path) -> Path:
    """Where the tests of a run leave what they found of this checkpoint."""
    step = read_checkpoint(checkpoint)["global_step"]
    return checkpoint.parents[1] / f"results_step={step}"


def tested(tutorial: str, checkpoint: Path, data: Path, *words: str) -> Row:
    """The scores of the held-out part at the threshold that suits the part before it best."""
    at = ["--checkpoint", str(checkpoint), *SWEEP, *words]
    emseg(tutorial, "--mode", "sweep", *at, labelled(data, "test", CHOOSING))
    summary = json.loads((results_of(checkpoint) / "choosing_summary.json").read_text())
    threshold = summary["best_by_adapted_rand_skimage"]["thresholds"]
    at.append(f"decoding.thresholds={threshold}")
    emseg(tutorial, "--mode", "test", *at, labelled(data, "test", HELD_OUT))
    auc = affinity_auc(checkpoint, data)
    return {"threshold": threshold, **scores_at(threshold, checkpoint), "affinity_auc": auc}


def scores_at(threshold: float, checkpoint: Path) -> Row:
    """The held-out part's scores at a threshold; a run may have been tested at others, too."""
    name = f"z{HELD_OUT[0]}"
    found = json.loads((results_of(checkpoint) / "metrics.json").read_text())["records"].values()
    used = [record["segmentations"][name]["decoding"]["thresholds"] for record in found]
    (scores,) = [
        record["volumes"][name] for record, one in zip(found, used, strict=True) if one == threshold
    ]
    return scores


def affinity_auc(checkpoint: Path, data: Path) -> float:
    """How likely a held-out pair in one object has a higher logit than a pair in two.

    It is of the network alone, no decoder has a say.
    """
    logits = open_volume(results_of(checkpoint) / f"z{HELD_OUT[0]}_prediction.h5")[...]
    labels = open_volume(f"{data / 'training_sample2.h5'}:volumes/labels/neuron_ids")[...]
    labels = labels[slice(*HELD_OUT)]
    found, same = [], []
    for axis, channel in enumerate(logits):
        first, second = range(labels.shape[axis] - 1), range(1, labels.shape[axis])
        before, after = (np.take(labels, places, axis) for places in (first, second))
        known = (before > 0) & (after > 0)
        found.append(np.take(channel, second, axis)[known])
        same.append((before == after)[known])
    one = np.concatenate(same)
    ranks, count = rankdata(np.concatenate(found))[one].sum(), int(one.sum())
    return float((ranks - count * (count + 1) / 2) / (count * (one.size - count)))


def means(rows: Mapping[str, Sequence[Row]]) -> dict[str, Row]:
    """The mean of each arm; every run is printed, then mean and spread (standard deviation)."""
    print(f"{'':12} {'seed':>6} {'threshold':>9} " + " ".join(f"{name:>20}" for name in SCORES))
    found = {}
    for arm, runs in rows.items():
        for seed, one in enumerate(runs):
            _line(arm, str(seed), f"{one['threshold']:.2f}", [one[name] for name in SCORES])
        columns = [[one[name] for one in runs] for name in SCORES]
        middle = [statistics.mean(column) for column in columns]
        _line(arm, "mean", "", middle)
        if len(runs) > 1:
            _line(arm, "spread", "", [statistics.stdev(column) for column in columns])
        found[arm] = dict(zip(SCORES, middle, strict=True))
    return found


def _line(arm: str, seed: str, threshold: str, values: Sequence[float]) -> None:
    shown = " ".join(f"{value:20.4f}" for value in values)
    print(f"{arm:12} {seed:>6} {threshold:>9} {shown}")
