"""SIGKILL at random moments of infer, decode and evaluate: what the same command makes afterwards.

    python benchmarks/kills.py [--kills 20] [--pairs 20] [--seed 0]

A tiny network predicts a small synthetic volume with workers, and its result is decoded, in blocks
in every second trial, and evaluated. The workers are children (`system.executor=process`), dask's
own, or those of a scheduler that runs by itself. In each trial the main process, one of the workers
or the scheduler is killed at a random moment, then the same command runs again, serially. Compared
with an unbroken run: prediction and segmentation, byte by byte, scores, files left over, and cells
that were finished before the kill and were written again. `--pairs` starts two runs on one folder,
0 to 2 s apart, so many times: one of them may be refused, the results must be the same.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[1]
sys.path += [str(REPOSITORY / "src"), str(REPOSITORY / "tests")]

from emseg.volumes import open_volume, write_volume  # noqa: E402
from stages.tiny_tutorial import DEMO, TINY, cells, train_tiny, write_volumes  # noqa: E402

# GiB in which predictions are decoded in blocks.
LITTLE = 0.012
SCHEDULER = "scheduler.json"
EXPECTED = {"config", "metrics", "overview", "report", "test_im_prediction", "test_im_segmentation"}
VICTIMS = ("main", "worker", "scheduler")
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
EMSEG = """
import os, sys
from emseg.cli import main
from emseg.stages import infer
from emseg.volumes import PartialVolume

infer.default_chunks = lambda shape: (*shape[:-3], 8, *shape[-2:])
store = PartialVolume._store

def noted(volume, number, row):
    with open("written", "a") as file:
        file.write(f"{volume.path.name} {number}\\n")
    store(volume, number, row)

PartialVolume._store = noted
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        words = prepared()
        start = time.monotonic()
        subprocess.run(command(words, "serial"), check=True, capture_output=True)
        wanted, longest = found(), time.monotonic() - start
        names = ("trials", *VICTIMS, "unequal", "left over", "repeated")
        counts = dict.fromkeys(names, 0)
        while sum(counts[whom] for whom in VICTIMS) < asked.kills:
            number = counts["trials"]
            more = [f"system.memory={LITTLE}"] if number // 3 % 2 else []
            executor = ("process", "dask", "scheduler")[number % 3]
            trial([*words, *more], executor, rng, 2 * longest, wanted, counts)
            print(executor, *more, counts, flush=True)
        print(json.dumps({"benchmark": "kills", **counts}), flush=True)
        counts = {"pairs": asked.pairs, "refused": 0, "unequal": 0, "left over": 0}
        for _ in range(asked.pairs):
            pair(words, rng.uniform(0, 2), wanted, counts)
    print(json.dumps({"benchmark": "pairs", **counts}))


def prepared() -> list[str]:
    """Volumes, a checkpoint and the words of a test."""
    write_volumes(Path())
    raw, labels = cells((120, 64, 64), seed=7)
    for name, array in (("raw", raw), ("labels", labels)):
        file = f"datasets/demo/test_{name}.h5"
        write_volume(file, array, axes="zyx", voxel_size=(30, 6, 6), attributes={})
    checkpoint = train_tiny() / "checkpoints" / "last.ckpt"
    Path("emseg_noted.py").write_text(EMSEG)
    # So few fragments that their contacts fit in little memory.
    more = [*TINY, "decoding.aff_threshold=[0.1,0.6]"]
    return ["--config", str(DEMO), "--mode", "test", "--checkpoint", str(checkpoint), *more]


def command(words: list[str], executor: str) -> list[str]:
    more = [f"system.executor={executor}", "system.processes=2"]
    if executor == "scheduler":
        more[0] = "system.executor=dask"
        more.append(f"system.scheduler={SCHEDULER}")
    return [sys.executable, "emseg_noted.py", *words, *more]


@contextmanager
def cluster(executor: str) -> Iterator[list[subprocess.Popen]]:
    """A scheduler of dask and two workers, each a process, if the executor needs them."""
    programs: list[subprocess.Popen] = []
    if executor == "scheduler":
        Path(SCHEDULER).unlink(missing_ok=True)
        about = ["--scheduler-file", SCHEDULER]
        alone = ["--no-dashboard", "--host", "127.0.0.1"]
        worker = ["dask_worker", *about, "--no-nanny", "--no-dashboard", "--nthreads", "1"]
        for name, *more in (["dask_scheduler", *about, *alone], worker, worker):
            program = [sys.executable, "-m", f"distributed.cli.{name}", *more]
            programs.append(subprocess.Popen(program, **QUIET))
        while not Path(SCHEDULER).exists():
            time.sleep(0.1)
    try:
        yield programs
    finally:
        for program in programs:
            program.kill()
            program.wait()


def results() -> Path:
    (folder,) = Path("outputs/demo").glob("*/results_step=2")
    return folder


def found() -> tuple[np.ndarray, np.ndarray, list]:
    """Prediction, segmentation and scores."""
    arrays = []
    for name in ("prediction", "segmentation"):
        (path,) = results().glob(f"test_im_{name}.*")
        arrays.append(open_volume(path)[...])
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
    counts["trials"] += 1
    with cluster(executor) as programs:
        run = subprocess.Popen(command(words, executor), **QUIET)
        time.sleep(rng.uniform(0, longest))
        if run.poll() is None:
            scheduler, *workers = [program.pid for program in programs] or [None]
            of = {"main": [run.pid], "worker": workers or children(run.pid)}
            of["scheduler"] = [scheduler] if scheduler else []
            whom = rng.choice([name for name, pids in of.items() if pids])
            counts[whom] += 1
            os.kill(rng.choice(of[whom]), signal.SIGKILL)
        run.wait()
    ledgers = [*Path("outputs").rglob("*.partial.cells/*.jsonl")]
    done = {
        f"{file.parent.name.removesuffix('.partial.cells')} {json.loads(line)[0]}"
        for file in ledgers
        for line in file.read_text().splitlines()
        if line.endswith("]")
    }
    Path("written").unlink(missing_ok=True)
    subprocess.run(command(words, "serial"), check=True, **QUIET)
    written = Path("written").read_text().splitlines() if Path("written").exists() else []
    counts["repeated"] += len(done & {*written})
    compare(wanted, counts)


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def pair(words: list[str], apart: float, wanted: tuple, counts: dict[str, int]) -> None:
    """Two runs of one command, and what is there when both have ended."""
    shutil.rmtree(results())
    first = subprocess.Popen(command(words, "process"), **QUIET)
    time.sleep(apart)
    second = subprocess.Popen(command(words, "process"), **QUIET)
    codes = sorted((first.wait(), second.wait()))
    assert codes in ([0, 0], [0, 2]), codes
    counts["refused"] += codes == [0, 2]
    compare(wanted, counts)


def compare(wanted: tuple, counts: dict[str, int]) -> None:
    prediction, segmentation, scores = found()
    same = np.array_equal(prediction, wanted[0]) and np.array_equal(segmentation, wanted[1])
    counts["unequal"] += not (same and scores == wanted[2])
    names = {path.stem for path in results().iterdir()}
    counts["left over"] += len(names - EXPECTED)


if __name__ == "__main__":
    main()
