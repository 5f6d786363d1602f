"""SIGKILL at random moments of infer, decode and evaluate: what the same command makes afterwards.

    python benchmarks/kills.py [--kills 20] [--seed 0]

A tiny network predicts a small synthetic volume with workers (`system.executor` process and dask in
turns), and its result is decoded and evaluated. In each trial the main process or one of its
children is killed at a random moment, then the same command runs again. Compared with an unbroken
run: prediction and segmentation, byte by byte, scores, files left over, and rows of chunks that
were finished before the kill and were written again.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[1]
sys.path += [str(REPOSITORY / "src"), str(REPOSITORY / "tests")]

from emseg.volumes import open_volume, write_volume  # noqa: E402
from stages.tiny_tutorial import DEMO, TINY, cells, train_tiny, write_volumes  # noqa: E402

EMSEG = """
import os, sys
from emseg.cli import main
from emseg.stages import infer
from emseg.volumes import PartialVolume

infer.default_chunks = lambda shape: (*shape[:-3], 8, *shape[-2:])
store = PartialVolume._store

def noted(volume, number, row):
    with open("written", "a") as file:
        file.write(f"{number}\\n")
    store(volume, number, row)

PartialVolume._store = noted
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        words = prepared()
        start = time.monotonic()
        subprocess.run(command(words, "serial"), check=True, capture_output=True)
        wanted, longest = found(), time.monotonic() - start
        counts = dict.fromkeys(("killed", "main", "child", "unequal", "left over", "repeated"), 0)
        for number in range(asked.kills):
            trial(words, ("process", "dask")[number % 2], rng, 2 * longest, wanted, counts)
    print(json.dumps({"benchmark": "kills", **counts, "equal": not counts["unequal"]}))


def prepared() -> list[str]:
    """Volumes, a checkpoint and the words of a test."""
    write_volumes(Path())
    raw, labels = cells((120, 64, 64), seed=7)
    for name, array in (("raw", raw), ("labels", labels)):
        file = f"datasets/demo/test_{name}.h5"
        write_volume(file, array, axes="zyx", voxel_size=(30, 6, 6), attributes={})
    checkpoint = train_tiny() / "checkpoints" / "last.ckpt"
    Path("emseg_noted.py").write_text(EMSEG)
    return ["--config", str(DEMO), "--mode", "test", "--checkpoint", str(checkpoint), *TINY]


def command(words: list[str], executor: str) -> list[str]:
    more = [f"system.executor={executor}", "system.processes=2"]
    return [sys.executable, "emseg_noted.py", *words, *more]


def results() -> Path:
    (folder,) = Path("outputs/demo").glob("*/results_step=2")
    return folder


def found() -> tuple[np.ndarray, np.ndarray, list]:
    """Prediction, segmentation and scores."""
    arrays = [
        open_volume(results() / f"test_im_{name}.h5")[...]
        for name in ("prediction", "segmentation")
    ]
    records = json.loads((results() / "metrics.json").read_text())["records"]
    return *arrays, [record["volumes"] for record in records.values()]


def trial(
    words: list[str],
    executor: str,
    rng: random.Random,
    longest: float,
    wanted: tuple,
    counts: dict[str, int],
) -> None:
    """One kill and one run after it."""
    shutil.rmtree(results())
    Path("written").unlink(missing_ok=True)
    pipe = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen(command(words, executor), **pipe)
    time.sleep(rng.uniform(0, longest))
    children = (
        [int(text) for text in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
        if run.poll() is None
        else []
    )
    whom = rng.choice(["main", "child"]) if children else "main"
    if run.poll() is None:
        counts["killed"] += 1
        counts[whom] += 1
        os.kill(run.pid if whom == "main" else rng.choice(children), signal.SIGKILL)
    run.wait()
    ledgers = [*Path("outputs").rglob("*.partial.rows/*.jsonl")]
    done = {
        json.loads(line)[0]
        for file in ledgers
        for line in file.read_text().splitlines()
        if line.endswith("]")
    }
    Path("written").unlink(missing_ok=True)
    subprocess.run(command(words, "serial"), check=True, **pipe)
    written = Path("written").read_text().split() if Path("written").exists() else []
    # The segmentation has rows of its own only if it is decoded in blocks, which it is not here.
    counts["repeated"] += len(done & {int(number) for number in written})
    prediction, segmentation, scores = found()
    same = np.array_equal(prediction, wanted[0]) and np.array_equal(segmentation, wanted[1])
    counts["unequal"] += not (same and scores == wanted[2])
    names = {path.name for path in results().iterdir()}
    counts["left over"] += len(
        names
        - {
            "config.yaml",
            "metrics.json",
            "overview.png",
            "test_im_prediction.h5",
            "test_im_segmentation.h5",
        }
    )


if __name__ == "__main__":
    main()
