"""A training that fails or is stopped ends in one line of ours, too."""

import errno
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from tensorboard.summary.writer.record_writer import RecordWriter

from bad_input.spoilt import SHAPE, write
from emseg.cli import main
from emseg.training.supervised import Supervised


def failure(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The last line of a training that began and then failed; all lines are ours."""
    capsys.readouterr()
    assert main(["--config", "tiny.yaml", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("emseg: ") for line in lines), lines
    return lines[-1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_chunk_that_cannot_be_read(capsys: pytest.CaptureFixture[str], num_workers: int) -> None:
    write("raw.h5", np.full(SHAPE, 100, np.uint8))  # what is not compressed is read whatever it is
    with h5py.File("raw.h5") as file:
        chunks = [
            file["main"].id.get_chunk_info(i) for i in range(file["main"].id.get_num_chunks())
        ]
    stored = bytearray(Path("raw.h5").read_bytes())
    for chunk in chunks:
        stored[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    Path("raw.h5").write_bytes(stored)
    told = failure(capsys, "data.preload=false", f"system.num_workers={num_workers}")
    assert told.startswith("emseg: cannot read 'raw.h5:main'")


def test_a_loss_that_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("optimization.optimizer.lr=1e30", "optimization.max_steps=5")
    told = failure(capsys, *words)
    assert told.startswith("emseg: the training loss is") and "optimization.optimizer.lr" in told


def test_a_loader_worker_that_is_killed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(module: Supervised, *_: object) -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid or 0, signal.SIGKILL)
        time.sleep(5)  # PyTorch tells meanwhile, wherever we are

    monkeypatch.setattr(Supervised, "training_step", kill)
    told = failure(
        capsys,
        "system.num_workers=1",
        "optimization.max_steps=50",
        "optimization.n_steps_per_epoch=50",
    )
    # PyTorch sees the signal or a closed pipe, whichever comes first
    assert re.match(
        r"emseg: a loader worker (was killed \(Killed\)|is gone), as a rule because memory", told
    )
    assert "system.num_workers=1" in told and multiprocessing.active_children() == []


def test_a_disk_that_is_full_when_tensorboard_writes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", full)
    told = failure(capsys)
    assert told.startswith("emseg: cannot write 'outputs/tiny/")
    assert told.endswith("': No space left on device")


@pytest.mark.parametrize("name", ["write_bytes", "write_text"])
def test_a_disk_that_is_full_when_checkpoint_or_config_are_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, name, full)
    told = failure(capsys)
    file = ".ckpt" if name == "write_bytes" else "train.lock"
    assert told.startswith("emseg: cannot write '") and f"{file}': No space left" in told
    assert not [*Path("outputs").rglob("*.tmp")]


def test_memory_of_a_gpu_that_is_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Supervised, "training_step", full)
    told = failure(capsys)
    assert "data.dataloader.batch_size=1" in told and "patch_size=[8, 16, 16]" in told


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lightning leaves Ctrl-C ignored."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_an_interrupted_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Supervised, "training_step", interrupted)
    assert main(["--config", "tiny.yaml"]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("emseg: ") for line in lines)
    assert lines[-1] == "emseg: interrupted; what was finished is kept"
