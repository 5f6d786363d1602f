"""Two runs at once, many times: python tests/stages/races.py --tries 20 (no test: it takes long).

For infer, test, tune and a training that goes on: two processes on one output, the second started a
random time after the first. Right is one of: both end well and the result is that of a run alone;
or one ends with code 2 and one line, and the result is that of a run alone.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

MAIN = Path(__file__).parents[2] / "scripts" / "main.py"
SOURCE = Path(__file__).parents[2] / "src"
CONFIG = """
defaults: [/base, {override /augment: none}, {override /decoding: affinity_cc}, _self_]
experiment_name: t
system: {num_gpus: 0, num_workers: 0}
data:
  train: {image: train.h5:raw, label: train.h5:labels}
  test: {image: test.h5:raw, label: test.h5:labels}
  dataloader: {batch_size: 1, patch_size: [8, 32, 32]}
model: {width: [4, 8], down_factors: [[1, 2, 2]]}
optimization: {max_steps: 2, n_steps_per_epoch: 1, scheduler: {warmup_epochs: 0}}
inference: {window: {overlap: 0.5, window_size: [8, 32, 32]}}
monitor: {logging: {images: {n_images: 0}}}
tune: {n_trials: 3, search_space: {threshold: {low: 0.3, high: 0.7}}}
"""
REFUSED = ("worked at by another run", "is reached already, nothing is left to train")
MODES = ("infer", "test", "tune", "train")


def main() -> int:
    """0 when every try ended right."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", nargs="*", default=MODES, choices=MODES)
    asked = parser.parse_args()
    draw, wrong = random.Random(asked.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        _prepare()
        for mode in asked.modes:
            words = _words(mode)
            _anew()
            start = time.monotonic()
            _ended(_started(words))
            alone, length = RESULTS[mode](), time.monotonic() - start
            for number in range(asked.tries):
                _anew()
                delay = draw.uniform(0, length)
                told = _race(words, delay)
                same = RESULTS[mode]() == alone
                right = same and (told in ("both", "one refused"))
                wrong += not right
                verdict = "right" if right else "WRONG"
                print(f"{mode} {number + 1}: {delay:.1f} s apart, {told}, {verdict}", flush=True)
    print(f"{wrong} wrong")
    return int(wrong > 0)


def _prepare() -> None:
    Path("t.yaml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    for name, shape in (("train", (16, 48, 64)), ("test", (32, 96, 96))):
        with h5py.File(f"{name}.h5", "w") as file:
            file["raw"] = rng.integers(0, 256, shape, np.uint8)
            file["labels"] = (np.indices(shape).sum(0) // 16 + 1).astype(np.uint32)
    _ended(_started([]))
    next(Path("outputs/t").iterdir()).rename("outputs/t/run")
    shutil.copytree("outputs", "trained")


def _anew() -> None:
    shutil.rmtree("outputs")
    shutil.copytree("trained", "outputs")


def _words(mode: str) -> list[str]:
    more = ["optimization.max_steps=6"] if mode == "train" else []
    return ["--mode", mode, "--checkpoint", "outputs/t/run/checkpoints/last.ckpt", *more]


def _started(words: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(MAIN), "--config", "t.yaml", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def _ended(process: subprocess.Popen[str]) -> None:
    said = process.communicate()[1]
    assert process.returncode == 0, said


def _race(words: list[str], delay: float) -> str:
    first = _started(words)
    time.sleep(delay)
    both = [first, _started(words)]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    if codes == [0, 0]:
        return "both"
    lines = [text.strip().splitlines()[-1:] for text in said]
    refused = [line for line, code in zip(lines, codes, strict=True) if code == 2]
    # The second run of a training that ended before has nothing left to do.
    if sorted(codes) == [0, 2] and any(words in str(refused) for words in REFUSED):
        return "one refused"
    return f"codes {codes}: {said}"


def _voxels(kind: str) -> str:
    path = next(Path("outputs/t/run").glob(f"results_step=*/test_im_{kind}.h5"))
    with h5py.File(path) as file:
        return hashlib.sha256(file["main"][...].tobytes()).hexdigest()


def _tested() -> tuple[str, str, str]:
    path = next(Path("outputs/t/run").glob("results_step=*/metrics.json"))
    (record,) = json.loads(path.read_text())["records"].values()
    return _voxels("prediction"), _voxels("segmentation"), json.dumps(record["volumes"])


def _tuned() -> tuple[str, bool]:
    """The prediction, and whether all trials that the study has ended: a second run adds some."""
    (path,) = Path("outputs/t/run/tune").glob("*.sqlite3")
    with sqlite3.connect(path) as study:
        states = [state for (state,) in study.execute("select state from trials")]
    return _voxels("prediction"), len(states) in (3, 6) and {*states} <= {"COMPLETE", "PRUNED"}


def _trained() -> str:
    """Of all weights; a training that goes on twice, one after the other, ends with the same."""
    stored = torch.load("outputs/t/run/checkpoints/last.ckpt", weights_only=True)
    digest = hashlib.sha256(str(stored["global_step"]).encode())
    for name, tensor in sorted(stored["state_dict"].items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


RESULTS: dict[str, Callable[[], object]] = {
    "infer": lambda: _voxels("prediction"),
    "test": _tested,
    "tune": _tuned,
    "train": _trained,
}

if __name__ == "__main__":
    sys.exit(main())
