"""Checkpoints appear whole or not at all; workers that end are named with what they lacked."""

import errno
import os
from pathlib import Path

import pytest
import torch

from emseg.errors import UserError
from emseg.training.saving import WholeCheckpoints
from emseg.training.workers import worker_fault


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    last, writer = tmp_path / "checkpoints" / "last.ckpt", WholeCheckpoints()
    writer.save_checkpoint({"global_step": 3}, last)

    def half(path: Path, contents: memoryview) -> None:
        with path.open("wb") as file:
            file.write(contents[: len(contents) // 2])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(UserError, match=f"^cannot write '{last}': {os.strerror(number)}$"):
        writer.save_checkpoint({"global_step": 4}, last)
    assert torch.load(last, weights_only=True) == {"global_step": 3}
    assert [*last.parent.iterdir()] == [last]
    assert writer.written == (last, 3)


FAULTS = [
    (
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        "killed (Killed), as",
    ),
    (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "worker is gone, as a"),
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It"), "/dev/shm"),
    (RuntimeError("Caught RuntimeError\nunable to write to file </torch_7_1>: No"), "--shm-size"),
    (RuntimeError("unable to allocate shared memory(shm) for file </torch_7>"), "num_workers=0"),
    (RuntimeError("Too many open files. Communication with the workers"), "ulimit -n"),
    (RuntimeError("shapes do not match"), None),
    (OSError(errno.ENOSPC, "disk"), None),
    (FileNotFoundError("a.h5"), None),
]


@pytest.mark.parametrize(("error", "told"), FAULTS)
def test_why_a_worker_ended(error: Exception, told: str | None) -> None:
    found = worker_fault(error, workers=3)
    assert (found is None) == (told is None)
    if told is not None:
        assert told in str(found) and "system.num_workers=3" in str(found)
