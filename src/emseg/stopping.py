"""Signals that ask a run to end: a cluster's time limit, `docker stop`, a closed terminal."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# SIGTERM, and the signals that a queue can send before it: SLURM's --signal, SGE's -notify.
ENDING = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
# Seconds for a run to end by itself; then it is killed. Clusters kill 30 s after the signal.
GRACE = 20.0
RESUMABLE = "what was finished is kept, and the same command goes on from there"


class Stopped(BaseException):
    """A signal, `number`, asked the run to end; `line` is for the user, "" if another prints it."""

    def __init__(self, number: int, line: str = RESUMABLE) -> None:
        super().__init__(line)
        self.number, self.line = number, line

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as in a shell: 143 after SIGTERM."""
        return 128 + self.number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}: {self.line}" if self.line else ""


@dataclass
class _State:
    """The received signal, 0 for none, and how it is handled."""

    number: int = 0
    installed: bool = False
    deferred: bool = False
    last_line: Callable[[], str] = lambda: RESUMABLE


_state = _State()


def _reset() -> None:
    vars(_state).update(vars(_State()))


@contextmanager
def ending_signals() -> Iterator[None]:
    """Within, the first of the `ENDING` signals raises `Stopped`; later ones change nothing.

    If that is not possible (the main thread is in a long native call), the process and all that it
    has started end `GRACE` seconds later. Signals that were ignored before still are.
    """
    # Python delivers signals only to the main thread.
    if threading.current_thread() is not threading.main_thread() or _state.installed:
        yield
        return
    before = {one: signal.getsignal(one) for one in ENDING}
    before = {one: handler for one, handler in before.items() if handler == signal.SIG_DFL}
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    over = threading.Event()
    watch = threading.Thread(target=_end_in_time, args=(reader, {*before}, over), daemon=True)
    _reset()
    _state.installed = True
    for one in before:
        signal.signal(one, _take)
    # The watching thread sees a signal at once, even if the main thread is busy.
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watch.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(woken)
        for one, handler in before.items():
            signal.signal(one, handler)
        # Reset for a training that is called from Python afterwards.
        _reset()
        # Closing is not enough: forked processes have the pipe too.
        os.write(writer, bytes(1))
        watch.join()
        os.close(writer)
        os.close(reader)


@contextmanager
def deferred_signals(last_line: Callable[[], str]) -> Iterator[Callable[[], int]]:
    """Within, signals raise nothing.

    Args:
        last_line: gives the line that is printed if the process must be killed.

    Yields:
        A function that returns the number of the received signal, 0 for none.
    """
    before = _state.last_line
    _state.deferred, _state.last_line = True, last_line
    try:
        yield lambda: _state.number
    finally:
        _state.deferred, _state.last_line = False, before


def reinstall_handlers() -> None:
    """Installs our handlers again after a library has replaced them."""
    if _state.installed:
        for one in ENDING:
            if signal.getsignal(one) not in (signal.SIG_IGN, signal.SIG_DFL):
                signal.signal(one, _take)


def end_with_parent(_worker: int = 0) -> None:
    """Makes this process, a worker, end only when its parent ends it, not by other signals.

    A cluster signals all processes of a job, but the parent needs its workers until its own end.

    Args:
        _worker: not used: the worker's number, from PyTorch's data loader.
    """
    for one in ENDING:
        if one != signal.SIGTERM:
            signal.signal(one, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # Threads inherit blocked signals: this one waits for the thread that checks its sender.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_wait_for_parent, args=(os.getppid(),), daemon=True).start()


def _wait_for_parent(parent: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        continue
    os._exit(0)


def _take(number: int, frame: FrameType | None) -> None:
    if _state.number:
        return
    _state.number = number
    if not _state.deferred:
        raise Stopped(number)


def _end_in_time(reader: int, numbers: set[int], over: threading.Event) -> None:
    while not over.is_set():
        number = os.read(reader, 1)[0]
        if number in numbers and not over.wait(GRACE):
            _end_hard(Stopped(number, _state.last_line()))


def _end_hard(last: Stopped) -> None:
    try:
        if last.line:
            # Not through the buffer of a stream, which the main thread may have locked.
            os.write(2, f"emseg: {last}\n".encode())
        for child in _descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
    finally:
        os._exit(last.exit_code)


def _descendants(process: int) -> list[int]:
    """Its child processes and their descendants, as Linux lists them."""
    found = []
    for tasks in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(word) for word in tasks.read_text().split()]
    return [*found, *(one for child in found for one in _descendants(child))]


def _after_fork() -> None:
    """A forked child gets signals like any process, and does not wake its parent's watcher."""
    if _state.installed:
        _reset()
        signal.set_wakeup_fd(-1)
        for one in ENDING:
            if signal.getsignal(one) not in (signal.SIG_IGN, signal.SIG_DFL):
                signal.signal(one, signal.SIG_DFL)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
