"""A training that a signal ends keeps its step, says how to go on, and goes on exactly."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emseg import stopping
from emseg.cli import main
from emseg.stages import patches
from emseg.training.checkpoints import read_checkpoint
from emseg.training.ema import Ema
from emseg.training.saving import WholeCheckpoints
from emseg.training.supervised import Supervised
from stages.tiny_tutorial import DEMO, TINY, write_volumes

# Seven steps in epochs of three, of two micro-batches; validation in each epoch.
WORDS = (
    *("--config", str(DEMO), *TINY, "system=cpu", "system.num_workers=0"),
    *("data.split_train_range=[0,8]", "data.split_val_range=[8,12]", "augment=none"),
    *("optimization.max_steps=7", "optimization.n_steps_per_epoch=3"),
    *("optimization.accumulate_grad_batches=2", "optimization.val_steps_per_epoch=2"),
    *("monitor.checkpoint.monitor=val_loss_total", "monitor.logging.images.n_images=0"),
)
STATES = ("state_dict", "current_model_state", "averaging_state", "lr_schedulers")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """The folder of a training that nothing has ended, and of the volumes."""
    folder = tmp_path_factory.mktemp("unbroken")
    write_volumes(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(WORDS) == 0
    return folder


@pytest.fixture(autouse=True)
def workplace(unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets").symlink_to(unbroken / "datasets")
    monkeypatch.chdir(tmp_path)


def _signalled(
    monkeypatch: pytest.MonkeyPatch, place: tuple[type, str], call: int, *numbers: int
) -> None:
    """In the midst of the `call`-th call of a method the process gets the signals, once."""
    owner, name = place
    original: Callable[..., Any] = getattr(owner, name)
    calls = []

    def signalled(*arguments: Any, **others: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(*arguments, **others)

    monkeypatch.setattr(owner, name, signalled)


def _last() -> Path:
    (last,) = Path("outputs").glob("*/*/checkpoints/last.ckpt")
    return last


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("outputs/*/*/checkpoints/*")}


TERM, USR1 = signal.SIGTERM, signal.SIGUSR1
TRAIN, VAL = (Supervised, "training_step"), (Supervised, "validation_step")


@pytest.mark.parametrize(
    ("place", "call", "numbers", "step"),
    [
        (TRAIN, 1, [TERM], 1),  # the first micro-batch of a step: the step is completed
        (TRAIN, 4, [USR1, TERM, TERM], 2),
        (TRAIN, 6, [TERM], 3),  # the last of an epoch: its validation is done by the next run
        (VAL, 1, [TERM], 3),  # with the averaged weights in the network's place
        (VAL, 4, [TERM], 6),
        ((Ema, "on_validation_epoch_end"), 1, [TERM], 3),  # then the epoch ends first
        ((WholeCheckpoints, "save_checkpoint"), 1, [signal.SIGUSR2], 3),
    ],
)
def test_a_signal_leaves_a_checkpoint_that_goes_on_exactly(
    unbroken: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: tuple[type, str],
    call: int,
    numbers: list[int],
    step: int,
) -> None:
    with monkeypatch.context() as patch:
        _signalled(patch, place, call, *numbers)
        assert main(WORDS) == 128 + numbers[0]
    told = capsys.readouterr().err.splitlines()
    assert all(line.startswith(("emseg: ", "train: ")) for line in told), told
    name = signal.Signals(numbers[0]).name
    found = re.fullmatch(
        rf"emseg: stopped by {name}: step {step} is saved, go on with: (.*)", told[-1]
    )
    assert found and read_checkpoint(_last())["global_step"] == step
    words = shlex.split(found[1])
    assert words == ["emseg", *WORDS, "--checkpoint", str(_last())]

    assert main(words[1:]) == 0
    ours, theirs = (
        read_checkpoint(next(folder.glob("outputs/*/*/checkpoints/last.ckpt")))
        for folder in (Path(), unbroken)
    )
    for key in STATES:
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0)
    for one, other in zip(ours["optimizer_states"], theirs["optimizer_states"], strict=True):
        torch.testing.assert_close(one["state"], other["state"], rtol=0, atol=0)
    assert ours["PatchDataModule"] == theirs["PatchDataModule"]
    # Validated as often, with the same losses: the best have the same names.
    assert _names(Path()) == _names(unbroken)


def test_before_the_first_step_nothing_is_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _signalled(monkeypatch, (patches, "PatchDataset"), 1, TERM)
    assert main(WORDS) == 143
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"emseg: stopped by SIGTERM: {stopping.RESUMABLE}"
    assert not Path("outputs").exists()


def test_after_the_last_step_the_training_is_complete(
    unbroken: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _signalled(monkeypatch, TRAIN, 14, TERM)
    assert main(WORDS) == 143
    assert "stopped by SIGTERM: all 7 steps are trained: outputs/" in capsys.readouterr().err
    assert _names(Path()) == _names(unbroken)


def test_workers_are_gone_and_a_signal_to_all_processes_ends_none_of_them_early(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, workers = Supervised.training_step, set()
    before = {*stopping._descendants(os.getpid())}

    def to_all(module: Supervised, *others: Any) -> Any:
        children = {*stopping._descendants(os.getpid())} - before
        workers.update(children)
        # By a process that is none of them, as a cluster does.
        subprocess.run(["kill", "-TERM", *map(str, (*children, os.getpid()))], check=True)
        return original(module, *others)

    monkeypatch.setattr(Supervised, "training_step", to_all)
    assert main([*WORDS, "system.num_workers=1"]) == 143
    assert "step 1 is saved" in capsys.readouterr().err
    assert workers and not workers & {*stopping._descendants(os.getpid())}


def test_a_step_that_takes_too_long_ends_with_the_last_checkpoint(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Ended(BaseException):
        pass

    codes = []

    def ended(code: int) -> None:
        codes.append(code)

    original, calls = Supervised.training_step, []

    def long(module: Supervised, *others: Any) -> Any:
        calls.append(1)
        if len(calls) == 11:
            os.kill(os.getpid(), USR1)
            while not codes:
                continue
        return original(module, *others)

    monkeypatch.setattr(Supervised, "training_step", long)
    monkeypatch.setattr(stopping, "GRACE", 0.01)
    monkeypatch.setattr(os, "_exit", ended)
    main([*WORDS, "monitor.checkpoint.every_n_steps=2"])
    assert codes == [138]
    told = capfd.readouterr().err
    assert "emseg: stopped by SIGUSR1: step 4 is saved, go on with: emseg --config" in told


def test_lightning_neither_reads_nor_writes_its_own_file_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "train",
        "SLURM_JOB_ID": "4242",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_NTASKS_PER_NODE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    Path("hpc_ckpt_1.ckpt").write_text("of another training")
    _signalled(monkeypatch, TRAIN, 3, USR1)
    assert main(WORDS) == 138
    assert "stopped by SIGUSR1: step 2 is saved" in capsys.readouterr().err
    assert {path.name for path in Path().iterdir()} == {"datasets", "outputs", "hpc_ckpt_1.ckpt"}
    assert len([*Path().rglob("hpc*")]) == 1
