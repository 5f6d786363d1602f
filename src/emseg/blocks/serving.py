"""The part of `emseg.blocks.child` that runs in the child: it receives calls, sends answers."""

import ctypes
import errno
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path

from emseg.errors import UserError
from emseg.stopping import ENDING


def serve(connection: Connection, folder: str, printed: str, nested: bool) -> None:
    """Answers calls until the other end of the connection is closed.

    Output goes to the file `printed`, temporary files to `folder`.
    """
    # A process group of its own: a kill then reaches all that it starts, and Ctrl-C in the terminal
    # only the parent, which decides. A child's child remains in that group.
    if not nested:
        os.setpgrp()
    # multiprocessing does not allow daemons to start children, but this one may.
    multiprocessing.current_process().daemon = False
    # A cluster signals all processes of a job to end it; here the parent decides when to end.
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    with output_to(os.open(printed, os.O_WRONLY | os.O_APPEND)):
        connection.send_bytes(pickle.dumps((True, None)))
        while True:
            try:
                request = connection.recv_bytes()
            except EOFError:
                return
            answer = _answer(request)
            _flush()
            connection.send_bytes(answer)


def _answer(request: bytes) -> bytes:
    try:
        function, args, kwargs, memory_limit = pickle.loads(request)
        with _limited_memory(memory_limit):
            result = function(*args, **kwargs)
        return pickle.dumps((True, result))
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            # numpy's class of it cannot be pickled, and mapped files raise an OSError instead.
            error = MemoryError(str(error))
        error.add_note("in the child process:\n" + traceback.format_exc())
        try:
            answer = pickle.dumps((False, error))
            pickle.loads(answer)
        except Exception:
            # The exception cannot be pickled, so only its text is sent.
            return pickle.dumps((False, RuntimeError("".join(traceback.format_exception(error)))))
        return answer


@contextmanager
def _limited_memory(limit: int | None) -> Iterator[None]:
    if limit is None:
        yield
        return
    if sys.platform != "linux":
        raise UserError(f"memory_limit is {limit}; it works on Linux alone, elsewhere it is null")
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    # Never above the limits of the process itself.
    finite = [bound for bound in before if bound != resource.RLIM_INFINITY]
    allowed = min([pages * resource.getpagesize() + limit, *finite])
    resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def output_to(descriptor: int) -> Iterator[None]:
    """While active, all that Python, C or C++ print goes to the open descriptor.

    This holds for the whole process: the output of other threads goes there too.
    """
    _flush()
    saved = [os.dup(number) for number in (1, 2)]
    # sys.stdout may not be descriptor 1 (in a notebook, a test runner): redirect both.
    with (
        os.fdopen(os.dup(descriptor), "w", buffering=1) as text,
        redirect_stdout(text),
        redirect_stderr(text),
    ):
        try:
            for number in (1, 2):
                os.dup2(descriptor, number)
            yield
        finally:
            _flush()
            for number, original in zip((1, 2), saved, strict=True):
                os.dup2(original, number)
                os.close(original)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # C and C++ have their own buffer.
    ctypes.CDLL(None).fflush(None)
