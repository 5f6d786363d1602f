"""Clefts of real sections that no training saw: `syn_cremi` made small, against intensity alone.

    python benchmarks/vnc.py --data stack1_crop20x512x512.h5 [--steps 600] [--quick]

The volume is the Drosophila nerve cord of Gerhard et al. 2013 with its synapses, 50 x 4.6 x 4.6 nm.
Columns x < 384 train, columns from there on are tested, once, at the recipe's threshold of 0.5. The
yardstick is a threshold on the smoothed image, its width and level those of the greatest Jaccard on
the training columns. Runs lie in `outputs/vnc` below the current folder; the last line is JSON.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from emseg.evaluation.cremi_distance import cremi_distance
from emseg.evaluation.jaccard import jaccard
from emseg.volumes import open_volume

REPOSITORY = Path(__file__).resolve().parents[1]
VOXEL_SIZE, CUT = (50.0, 4.6, 4.6), 384
SIGMAS, LEVELS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0), range(20, 130, 2)
# What makes the recipe one of 20 minutes on two cores.
SMALL = [
    "experiment_name=vnc",
    "system=cpu",
    "system.num_workers=0",
    "optimization.precision=32-true",
    "model.width=[8,16,32,48]",
    "model.down_factors=[[1,2,2],[1,2,2],[1,2,2]]",
    "model.depth_2d=2",
    "data.dataloader.patch_size=[8,128,128]",
    "data.reject_sampling.size_thres=200",
    "data.split_train_range=null",
    "data.split_val_range=null",
    "inference.window.window_size=[8,128,128]",
    "optimization.optimizer.lr=2.0e-3",
    "optimization.n_steps_per_epoch=50",
    "optimization.ema.decay=0.99",
    "optimization.ema.warmup_steps=100",
    "monitor.checkpoint.every_n_steps=100",
    "monitor.logging.images.n_slices=4",
]


def columns(data: Path, split: str, start: int, stop: int) -> list[str]:
    """The overrides that make a part of the stack the volume of a split."""
    facts = {
        "image": f"{data}:volumes/raw",
        "label": f"{data}:volumes/labels/synapses",
        "resolution": "[50,4.6,4.6]",
        "range": f"[{start},{stop}]",
        "range_axis": "x",
    }
    return [f"data.{split}.{key}={value}" for key, value in facts.items()]


def emseg(*words: str) -> None:
    """One command line of emseg, done."""
    command = [sys.executable, str(REPOSITORY / "scripts" / "main.py")]
    tutorial = str(REPOSITORY / "tutorials" / "syn_cremi.yaml")
    subprocess.run([*command, "--config", tutorial, *words], check=True)


def scores(mask: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Both metrics of the recipe."""
    labels = mask.astype(np.uint8)
    return jaccard(labels, truth) | cremi_distance(labels, truth, voxel_size=VOXEL_SIZE)


def intensity_alone(raw: np.ndarray, truth: np.ndarray) -> tuple[dict[str, float], str]:
    """Scores of the held-out part by the threshold that suits the training part best."""
    smooth = {s: gaussian_filter(raw.astype(np.float32), (0, s, s)) for s in SIGMAS}

    def found(sigma: float, level: int) -> float:
        dark = smooth[sigma][..., :CUT] < level
        return jaccard(dark.astype(np.uint8), truth[..., :CUT])["jaccard"]

    sigma, level = max(itertools.product(SIGMAS, LEVELS), key=lambda pair: found(*pair))
    chosen = f"below {level} after {sigma:g} pixels: {found(sigma, level):.4f} in training"
    return scores(smooth[sigma][..., CUT:] < level, truth[..., CUT:]), chosen


def curve(probability: np.ndarray, truth: np.ndarray) -> list[tuple[float, float, float]]:
    """(threshold, precision, recall) at nineteen thresholds."""
    points = []
    for threshold in np.linspace(0.05, 0.95, 19):
        one = jaccard((probability > threshold).astype(np.uint8), truth)
        points.append((threshold, one["jaccard_precision"], one["jaccard_recall"]))
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the stack, HDF5")
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--quick", action="store_true", help="20 steps, to see that it runs")
    parser.add_argument("--run", type=Path, help="a run that is there, instead of a training")
    asked = parser.parse_args()
    steps, run = 20 if asked.quick else asked.steps, asked.run
    start = time.monotonic()
    if run is None:
        emseg(*columns(asked.data, "train", 0, CUT), *SMALL, f"optimization.max_steps={steps}")
        run = max(Path("outputs/vnc").iterdir())
    minutes = (time.monotonic() - start) / 60
    last = str(run / "checkpoints" / "last.ckpt")
    emseg("--mode", "test", "--checkpoint", last, *columns(asked.data, "test", CUT, 512), *SMALL)
    (predicted,) = run.glob("results_step=*/test_im_prediction.h5")
    probability = open_volume(predicted)[...][0]
    raw = open_volume(f"{asked.data}:volumes/raw")[...]
    truth = open_volume(f"{asked.data}:volumes/labels/synapses")[...]
    held_out = truth[..., CUT:]
    alone, chosen = intensity_alone(raw, truth)
    found = {"network": scores(probability > 0.5, held_out), "intensity": alone}
    print(f"trained for {minutes:.1f} min; held-out foreground voxels: {(held_out > 0).sum()}")
    print(f"intensity {chosen}")
    for name in ("jaccard", "jaccard_precision", "jaccard_recall", "cremi_distance", "cremi_adgt"):
        print(f"{name:18} " + "  ".join(f"{who} {one[name]:9.4f}" for who, one in found.items()))
    print("threshold  precision  recall")
    points = curve(probability, held_out)
    for threshold, precision, recall in points:
        print(f"{threshold:9.2f} {precision:10.4f} {recall:7.4f}")
    ratio = found["network"]["jaccard"] / alone["jaccard"]
    nearer = found["network"]["cremi_distance"] < alone["cremi_distance"]
    report = {"benchmark": "vnc", "ratios": {"jaccard": round(ratio, 2)}, "lower_distance": nearer}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
