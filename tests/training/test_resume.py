import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import per_head_module, train

from emseg.training.ema import Ema

SCRIPT = Path(__file__).with_name("tiny_run.py")
# All that a run goes on from: average, live weights, moments, schedule.
STATES = (
    "state_dict",
    "current_model_state",
    "optimizer_states",
    "lr_schedulers",
    "averaging_state",
)


@pytest.fixture(autouse=True)
def _one_thread():
    # Like the other processes: the number of threads changes the order of sums.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _run_script(*args) -> subprocess.CompletedProcess:
    paths = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def _states(checkpoint: Path) -> dict:
    contents = torch.load(checkpoint, weights_only=True)
    for state in contents["optimizer_states"]:
        for group in state["param_groups"]:
            assert all(group.pop("param_names"))  # text, which assert_close does not take
    return {name: contents[name] for name in STATES}


def test_two_processes_train_and_resume_like_one_with_the_doubled_batch(tmp_path):
    train(
        per_head_module(),
        tmp_path / "one",
        steps=10,
        batch_size=4,
        callbacks=(Ema(decay=0.9, warmup_steps=3),),
    )
    given = ("--steps", 5, 10, "--devices", 2, "--batch-size", 2, "--per-head")
    both = _run_script(tmp_path / "two", *given)
    assert both.returncode == 0, both.stderr
    found, wanted = (_states(tmp_path / name / "last.ckpt") for name in ("two", "one"))
    learned = [v for name, v in wanted["state_dict"].items() if name.startswith("loss.log_varian")]
    assert len(learned) == 2 and all(learned)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_loss_that_is_not_finite_on_one_process_stops_both(tmp_path):
    run = _run_script(tmp_path, "--steps", 5, "--devices", 2, "--batch-size", 1, "--bad", 1)
    assert run.returncode != 0
    assert run.stderr.count("emseg.errors.UserError: the training loss is nan at step 0") == 2
