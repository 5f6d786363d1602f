"""The side of `emseg.blocks.child` that runs in the child: calls come in, answers go out."""

import errno
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from emseg.blocks.capture import flush_output, output_to
from emseg.errors import UserError
from emseg.stopping import ENDING


def serve(connection: Connection, folder: str, printed: str, nested: bool) -> None:
    """Nothing, after the last call: the connection's other end was closed.

    Prints go to the file `printed`, temporary files to `folder`.
    """
    # A group of its own, so that a kill reaches what it starts and the terminal's Ctrl-C does not:
    # the parent, which gets it, decides. A child's child stays in that group.
    if not nested:
        os.setpgrp()
    # It may start children of its own, which multiprocessing denies to a daemon.
    multiprocessing.current_process().daemon = False
    # A cluster that ends a job signals all its processes: when this one ends, the parent says.
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
            flush_output()
            connection.send_bytes(answer)


def _answer(request: bytes) -> bytes:
    try:
        function, args, kwargs, memory_limit = pickle.loads(request)
        with _limited_memory(memory_limit):
            result = function(*args, **kwargs)
        return pickle.dumps((True, result))
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            # numpy's is of a class that cannot travel, that of a mapped file is an OSError.
            error = MemoryError(str(error))
        error.add_note("in the child process:\n" + traceback.format_exc())
        try:
            answer = pickle.dumps((False, error))
            pickle.loads(answer)
        except Exception:
            # An exception that cannot travel: its words do.
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
    # Never above what the process was given itself.
    finite = [bound for bound in before if bound != resource.RLIM_INFINITY]
    allowed = min([pages * resource.getpagesize() + limit, *finite])
    resource.setrlimit(resource.RLIMIT_AS, (allowed, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
