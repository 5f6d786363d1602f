"""What another run works at is left to it: one line that names it, and nothing is touched."""

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bad_input.spoilt import CHECKPOINT, SHAPE, holds
from emseg.cli import main
from emseg.runs.owner import started_at, this_run
from emseg.volumes import write_volume
from stages.nearest_facts import FACTS

RUN = Path("outputs/tiny/run")
RESULTS = RUN / "results_step=1"
CONFIGURED = ("--config", "tiny.yaml", "--mode")


def busy(path: Path) -> None:
    """A lock of a process that lives: the one that has started the tests."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parent = {"process": os.getppid(), "started": started_at(os.getppid())}
    owner = vars(this_run("emseg --mode first")) | parent
    Path(f"{path}.lock").write_text(json.dumps(owner))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (RESULTS / "test_im", ["--mode", "infer", "--checkpoint", CHECKPOINT]),
        (RESULTS / "test_im", ["--mode", "test", "--checkpoint", CHECKPOINT]),
        (RESULTS / "test_im", ["--mode", "tune", "--checkpoint", CHECKPOINT]),
        (Path("p"), ["--mode", "decode", "--input", "p.h5"]),
        (Path("labels"), ["--mode", "evaluate", "--input", "labels.h5"]),
        (RUN / "train", ["--checkpoint", CHECKPOINT, "optimization.max_steps=2"]),
    ],
)
def test_modes(refusal: Callable[..., str], path: Path, words: list[str]) -> None:
    values = np.zeros((3, *SHAPE), np.float32)
    write_volume("p.h5", values, axes="czyx", voxel_size=(10, 10, 10), attributes=FACTS)
    busy(path)
    parts = [
        f"'{path}'",
        f"process {os.getppid()}",
        "emseg --mode first",
        "wait until it has ended",
    ]
    holds(refusal(*words), parts)


def test_a_study_that_another_run_is_creating(refusal: Callable[..., str]) -> None:
    """Optuna makes its tables one by one."""
    busy(RUN / "tune" / "tiny_tuning")
    with closing(sqlite3.connect(RUN / "tune" / "tiny_tuning.sqlite3")) as file:
        file.execute("create table studies (study_id integer)")
    message = refusal("--mode", "tune", "--checkpoint", CHECKPOINT)
    holds(message, [f"'{RUN / 'tune' / 'tiny_tuning'}'", "emseg --mode first"])


@pytest.mark.parametrize(
    "words",
    [
        ("synth", "snemi", "out"),
        ("download", "snemi", "out"),
        ("download", "cremi-official", "out"),
        ("prepare", "ac3ac4", "out"),
        ("demo",),
    ],
)
def test_verbs(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("datasets/demo" if words == ("demo",) else "out")
    busy(folder / "emseg")
    capsys.readouterr()
    assert main([*words]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "emseg --mode first" in printed.err
    assert [path.name for path in folder.iterdir()] == ["emseg.lock"]


def test_a_lock_of_the_dead_is_in_nobody_s_way() -> None:
    busy(RESULTS / "test_im")
    file = RESULTS / "test_im.lock"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"started": "1"}))
    assert main([*CONFIGURED, "infer", "--checkpoint", CHECKPOINT]) == 0
    assert not file.exists()
