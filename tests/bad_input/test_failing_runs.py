"""A training that fails or is stopped ends in one line of ours, too."""

import signal
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

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
