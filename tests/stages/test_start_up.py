"""Which libraries a mode waits for before it does any work."""

import os
import subprocess
import sys
from pathlib import Path

from stages.conftest import Experiment

SOURCE = Path(__file__).parents[2] / "src"
SLOW = ("torch", "torch._dynamo", "pytorch_lightning", "torchmetrics", "monai", "optuna")

# Says after each command line which of the libraries are there by now.
PROGRAM = f"""
import sys
from emseg.cli import main
for words in sys.stdin.read().splitlines():
    code = main(words.split())
    print("there", code, *(name for name in {SLOW} if name in sys.modules))
"""


def test_modes_wait_for_no_library_that_they_have_no_use_for(experiment: Experiment) -> None:
    assert experiment.emseg("test") == 0
    files = {
        kind: experiment.results / f"test_im_{kind}.h5" for kind in ("prediction", "segmentation")
    }
    decode, evaluate = (
        f"--mode {mode} --input {files[kind]} --force"
        for mode, kind in (("decode", "prediction"), ("evaluate", "segmentation"))
    )
    weights = f"--checkpoint {experiment.checkpoint} --force"
    # Nothing is forgotten again: those that bring less come first.
    config = f"--config {experiment.config}"
    commands = [
        ("inspect test.h5", []),
        (f"{decode} --check", []),
        (f"{evaluate} --check", []),
        (decode, []),
        (evaluate, []),
        ("--mode evaluate --check", ["torch"]),
        ("--mode infer --check", ["torch"]),
        ("--mode tune --check", ["torch"]),
        (f"--mode infer {weights}", ["torch"]),
    ]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="\n".join(
            words if words.startswith("inspect") else f"{config} {words}" for words, _ in commands
        ),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 0, ended.stderr
    told = [line.split()[1:] for line in ended.stdout.splitlines() if line.startswith("there")]
    assert told == [["0", *brought] for _, brought in commands], ended.stderr
