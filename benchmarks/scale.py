"""A volume of gigavoxels through infer, decode and evaluate: seconds and memory of each process.

    python benchmarks/scale.py --tile FILE:RAW FILE:LABELS [--shapes ZxYxX ...] [--memory 3]
        [--workers 2] [--steps 1000] [--folder FOLDER] [--also KEY=VALUE ...]

The volume repeats a tile of 128^3 voxels whose faces are background, with ids of its own in each. A
small network is trained on the tile, predicts the volume with `system.executor=process`, and both
its prediction and affinities without noise are decoded by agglomeration and by components, with
`system.memory` of so many GiB, and scored against the truth. Everything runs as users run it.
Memory is the largest of any process that no file backs (RssAnon), looked at ten times a second.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from skimage.measure import label

from emseg.kernels.affinity import affinities
from emseg.volumes import default_chunks, open_volume, write_volume
from emseg.volumes.layout import make_layout
from emseg.volumes.ome_zarr import create_zarr

MAIN = Path(__file__).parents[1] / "scripts" / "main.py"
SIDE = 128
OFFSETS = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
VOXEL = (10, 10, 10)
TUTORIAL = """
defaults: [/base, override /target: aff3, override /augment: iso, override /decoding: agglomerate,
           override /evaluation/metrics: [adapted_rand, voi], _self_]
experiment_name: scale
data:
  train: {{image: tile_raw.h5, label: tile_labels.h5}}
  test: {{image: {name}_raw.zarr, label: {name}_labels.zarr}}
  dataloader: {{batch_size: 2, patch_size: [32, 32, 32]}}
target: {{erosion: [1, 1, 1]}}
model: {{width: [8, 16], down_factors: [[2, 2, 2]], stem_factor: [2, 2, 2]}}
optimization:
  max_steps: {steps}
  n_steps_per_epoch: {steps}
  precision: 32-true
  optimizer: {{lr: 3.0e-3}}
  scheduler: {{warmup_epochs: 0.3}}
inference:
  output_dtype: uint8
  window: {{window_size: [32, 128, 128], overlap: 0.125}}
  test_time_augmentation: {{enabled: false}}
decoding: {{fragments: basins}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tile", nargs=2, required=True)
    parser.add_argument("--shapes", nargs="+", default=["512x512x2048", "1024x1024x2048"])
    parser.add_argument("--memory", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--also", nargs="*", default=[])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        os.chdir(folder)
        raw, labels = tile(*asked.tile)
        rows = []
        for shape in asked.shapes:
            make(shape, raw, labels)
            Path(f"{shape}.yaml").write_text(TUTORIAL.format(name=shape, steps=asked.steps))
            rows += measured(shape, asked)
        print(json.dumps({"benchmark": "scale", "runs": rows}))


def tile(image: str, truth: str) -> tuple[np.ndarray, np.ndarray]:
    """Raw and labels of the tile, whose outermost voxels are dark background; they are written."""
    inside = (slice(1, SIDE - 1),) * 3
    raw, labels = (np.zeros((SIDE,) * 3, dtype) for dtype in (np.uint8, np.uint32))
    raw[inside] = open_volume(image)[...][inside]
    # Affinities of neighbours cannot join the pieces of an object that meet outside the tile.
    labels[inside] = label(open_volume(truth)[...][inside], connectivity=1, background=-1)
    for name, array in (("raw", raw), ("labels", labels)):
        write_volume(f"tile_{name}.h5", array, axes="zyx", voxel_size=VOXEL)
    return raw, labels


def make(name: str, raw: np.ndarray, labels: np.ndarray) -> None:
    """Raw, truth and affinities without noise, of as many tiles as the shape has, as zarr."""
    shape = tuple(map(int, name.split("x")))
    counts = [size // SIDE for size in shape]
    exact, _ = affinities(labels.astype(np.int32), offsets=OFFSETS, edge_side="destination")
    outputs = {
        "raw": (shape, np.uint8, "zyx"),
        "labels": (shape, np.uint32, "zyx"),
        "exact": ((3, *shape), np.uint8, "czyx"),
    }
    arrays = {}
    for kind, (size, dtype, axes) in outputs.items():
        layout = make_layout(size, dtype, axes=axes, voxel_size=VOXEL, chunks=default_chunks(size))
        arrays[kind] = create_zarr(Path(f"{name}_{kind}.zarr"), layout)
    many = int(labels.max())
    for row in range(counts[0]):
        here = slice(row * SIDE, (row + 1) * SIDE)
        arrays["raw"][here] = np.tile(raw, (1, *counts[1:]))
        arrays["exact"][:, here] = np.tile(255 * exact, (1, 1, *counts[1:]))
        number = np.arange(counts[1] * counts[2], dtype=np.uint32).reshape(counts[1:])
        first = (number + row * number.size).repeat(SIDE, 0).repeat(SIDE, 1) * many
        ids = np.tile(labels, (1, *counts[1:]))
        arrays["labels"][here] = np.where(ids > 0, ids + first, 0).astype(np.uint32)


def measured(name: str, asked: argparse.Namespace) -> list[dict]:
    """A row for each stage of one volume."""
    voxels = int(np.prod([*map(int, name.split("x"))]))
    system = ["system.executor=process", f"system.processes={asked.workers}"]
    system += [f"system.memory={asked.memory}", "system.num_gpus=0", *asked.also]
    given = ["--config", f"{name}.yaml"]
    run([*given, "--mode", "train", "system.num_gpus=0", "system.num_workers=0"])
    checkpoint = sorted(Path("outputs/scale").glob("*/checkpoints/last.ckpt"))[-1]
    weights, rows = ["--checkpoint", str(checkpoint)], []

    def stage(what: str, words: list[str]) -> str:
        seconds, peak, printed = run([*given, *words, *system])
        row = {"volume": name, "stage": what, "seconds": round(seconds, 1)}
        row |= {"Mvoxel/s": round(voxels / seconds / 1e6, 2), "peak GiB": round(peak / 2**30, 3)}
        rows.append(row)
        print(row, flush=True)
        if what.startswith("evaluate"):
            print("   ", re.search(r"^ *test_im .*", printed, re.M).group(), flush=True)
        return printed

    stage("infer", ["--mode", "infer", *weights])
    exact = [
        *("--input", f"{name}_exact.zarr", "inference.prediction.values=probability"),
        *(f"inference.prediction.offsets={OFFSETS}", "inference.prediction.axes=czyx"),
        "inference.prediction.edge_side=destination",
    ]
    for decoder in ("agglomerate", "affinity_cc"):
        choice = f"decoding={decoder}"
        stage(f"decode, {decoder}", ["--mode", "decode", *weights, choice])
        stage(f"evaluate, {decoder}", ["--mode", "evaluate", *weights, choice])
        # Basins blur edges that are stored at one voxel of the two.
        more = ["decoding.fragments=volume"] if decoder == "agglomerate" else []
        words = ["--mode", "decode", *exact, choice, *more]
        printed = stage(f"decode exact, {decoder}", words)
        (made,) = re.findall(r"segmentation: (.*)", printed)
        stage(f"evaluate exact, {decoder}", ["--mode", "evaluate", "--input", made, choice])
    return rows


def run(words: list[str]) -> tuple[float, int, str]:
    """Seconds, the peak memory of its largest process, and what it printed."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as printed:
        child = subprocess.Popen(
            [sys.executable, MAIN, *words], stdout=printed, stderr=subprocess.STDOUT
        )
        peaks = [0]
        watch = threading.Thread(target=watching, args=(child, peaks))
        watch.start()
        code = child.wait()
        watch.join()
        printed.seek(0)
        text = printed.read()
    assert code == 0, text
    return time.monotonic() - start, max(peaks), text


def watching(child: subprocess.Popen, peaks: list[int]) -> None:
    while child.poll() is None:
        peaks.append(max(map(anonymous, family(child.pid)), default=0))
        time.sleep(0.1)


def family(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for one in found:
        try:
            children = Path(f"/proc/{one}/task").glob("*/children")
            found += [int(text) for file in children for text in file.read_text().split()]
        except OSError:  # it has ended
            continue
    return found


def anonymous(pid: int) -> int:
    """Bytes of its memory that no file backs."""
    try:
        (kib,) = re.findall(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except (OSError, ValueError):
        return 0
    return int(kib) * 1024


if __name__ == "__main__":
    main()
