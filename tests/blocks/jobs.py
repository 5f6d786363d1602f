"""Jobs for the tests of executors, importable by other processes."""

import os
import signal
import time
from pathlib import Path

from emseg.blocks.executors import Place
from emseg.errors import UserError


def note(job: tuple[Path, int], place: Place) -> None:
    """Leaves a file for each time that the job is done."""
    folder, number = job
    times = len(list(folder.glob(f"{number}.*")))
    (folder / f"{number}.{times}.threads{place.threads}").touch()


def die_once(job: tuple[Path, int], place: Place) -> None:
    """The second job kills its process the first time."""
    folder, number = job
    if number == 1 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    note(job, place)


def die_always(job: tuple[Path, int], place: Place) -> None:
    """The second job kills its process each time."""
    if job[1] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    note(job, place)


def refuse(job: tuple[Path, int], place: Place) -> None:
    """The second job fails."""
    if job[1] == 1:
        raise UserError("this one cannot be done")
    note(job, place)


def alone(job: tuple[Path, int], place: Place) -> None:
    """Fails if another job is done in the same process at the same time."""
    busy = job[0] / "busy"
    if busy.exists():
        raise UserError("two jobs at once in one process")
    busy.touch()
    time.sleep(0.05)
    busy.unlink()
    note(job, place)
