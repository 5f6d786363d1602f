"""What the machine refuses, or a signal ends, is one line for every mode and verb; a bug is not."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from emseg import stopping
from emseg.cli import main
from emseg.errors import UserError
from emseg.stages import demo


@pytest.fixture
def ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Callable[[], object]], tuple[int, list[str]]]:
    """The exit code and the lines of `emseg demo` that does something else."""

    def end(function: Callable[[], object]) -> tuple[int, list[str]]:
        monkeypatch.setattr(demo, "demo", function)
        code = main(["demo"])
        return code, capsys.readouterr().err.splitlines()

    return end


def _raising(error: BaseException, cause: BaseException | None = None) -> Callable[[], object]:
    def function() -> None:
        raise error from cause

    return function


SPACE = os.strerror(errno.ENOSPC)
FAULTS = [
    (OSError(errno.ENOSPC, "", "a.h5"), f"cannot write 'a.h5': {SPACE}"),
    (OSError(errno.EDQUOT, "", "a.h5"), f"cannot write 'a.h5': {os.strerror(errno.EDQUOT)}"),
    (OSError(errno.EROFS, "", "a.h5"), f"cannot write 'a.h5': {os.strerror(errno.EROFS)}"),
    (OSError(errno.ENOSPC, ""), f"cannot write a file (of the run, or a temporary one): {SPACE}"),
    (PermissionError(errno.EACCES, "", "a.h5"), "'a.h5': Permission denied"),
    (OSError(errno.EIO, ""), "a file cannot be read or written: Input/output error"),
    (OSError(errno.ENAMETOOLONG, "", "long"), "'long': File name too long"),
    (OSError(errno.EMFILE, ""), "Too many open files: raise the limit with ulimit -n"),
    (FileNotFoundError(errno.ENOENT, "", "gone"), "'gone': No such file or directory"),
    (
        sqlite3.OperationalError("database or disk is full"),
        "cannot write: database or disk is full",
    ),
    (RuntimeError(f"library: write failed, errno 28, {SPACE}"), f"cannot write: {SPACE}"),
    (MemoryError("Unable to allocate 9 GiB"), "out of memory (Unable to allocate 9 GiB): lower"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate"), "the GPU's memory does not suffice"),
]


@pytest.mark.parametrize(("error", "told"), FAULTS)
def test_a_fault_of_the_machine_is_one_line(ended, error: Exception, told: str) -> None:
    for function in (_raising(error), _raising(RuntimeError("a library's"), error)):
        code, lines = ended(function)
        assert code == 2 and len(lines) == 1
        assert lines[0].startswith(f"emseg: {told}")


def test_what_fails_once_more_while_a_mistake_is_told_does_not_hide_it(ended) -> None:
    def function() -> None:
        try:
            raise UserError("cannot write 'a.ckpt'")
        finally:
            raise OSError(errno.ENOSPC, "no name")

    assert ended(function) == (2, ["emseg: cannot write 'a.ckpt'"])


@pytest.mark.parametrize(
    "error", [KeyError("a"), ValueError("b"), OSError(errno.EBADF, "c"), RuntimeError("d")]
)
def test_an_error_of_ours_is_shown_whole(ended, error: Exception) -> None:
    with pytest.raises(type(error)):
        ended(_raising(error))


def test_a_thread_of_a_library_that_cannot_write_is_one_line(ended) -> None:
    def function() -> None:
        thread = threading.Thread(target=_raising(OSError(errno.ENOSPC, "", "events")))
        thread.start()
        thread.join()

    before = threading.excepthook
    assert ended(function) == (2, [f"emseg: cannot write 'events': {SPACE}"])
    assert threading.excepthook is before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_signal_ends_in_one_line(ended, name: str) -> None:
    number = getattr(signal, name)
    cleaned = []

    def function() -> None:
        try:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        finally:
            # A second one does not break what is put in order meanwhile.
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned.append(1)

    told = f"emseg: stopped by {name}: {stopping.RESUMABLE}"
    assert ended(function) == (128 + number, [told])
    assert cleaned and signal.getsignal(number) == signal.SIG_DFL


def test_signals_that_are_ignored_still_are(ended) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ended(lambda: os.kill(os.getpid(), signal.SIGHUP)) == (0, [])
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_call_that_does_not_come_back_is_ended_with_its_children(
    ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(stopping, "GRACE", 0.01)
    monkeypatch.setattr(stopping, "_take", lambda *_: None)  # a native call hears nothing
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def function() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not codes:
            continue

    ended(function)
    assert codes == [143] and child.wait() == -signal.SIGKILL


def test_other_signals_and_forked_children_wake_nobody(ended) -> None:
    def function() -> None:
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM

    assert ended(function) == (0, [])


def test_output_that_nobody_reads_ends_quietly() -> None:
    code = (
        "import sys\nfrom emseg import cli\n"
        "cli.run_verb = lambda *_: print('x' * 100_000)\nsys.exit(cli.main(['demo']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141
