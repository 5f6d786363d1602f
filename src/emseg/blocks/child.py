"""Calls in a process of their own, which can be stopped, may crash, and print where we read."""

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from emseg.blocks.capture import flush_output, output_to
from emseg.errors import UserError

# Of what a call printed, the end is kept: enough for a native library's last words.
KEPT_OUTPUT = 64 * 1024


class ChildCrash(RuntimeError):
    """The child ended in the middle of a call: `exitcode` is its status, negative for a signal."""

    def __init__(self, message: str, exitcode: int | None) -> None:
        super().__init__(message)
        self.exitcode = exitcode


class ChildWorker:
    """A spawned process that runs one call after the other and is replaced when it is stopped.

    It lives across calls, so that imports and compiled kernels are paid for once. `output` is what
    the last call printed to standard output and error, native code included.

    It does not run the main module again, as spawned processes do: a script needs no guard, the
    child imports no more than its functions need, and they are not the main module's own.
    """

    def __init__(self) -> None:
        self.output = ""
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._printed: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def call(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        timeout: float | None = None,
        memory_limit: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """What `function(*args, **kwargs)` returns in the child.

        The function is one that can be imported, arguments and result can be pickled. Whatever it
        raises is raised here, with what it printed as a note. After `timeout` seconds (start and
        imports of a fresh child not counted, those of the function counted) the child and its
        process group are killed and TimeoutError is raised; when the child dies, ChildCrash. The
        next call starts another.

        From when the function is imported to when it returns, the child's address space may grow
        by `memory_limit` bytes (files that it maps count). What asks for more gets a MemoryError,
        raised here too; native code that cannot bear it ends in a ChildCrash. Linux only, a
        UserError elsewhere.
        """
        # Pickled before anything is sent: a function that cannot travel costs no child.
        request = pickle.dumps((function, args, kwargs, memory_limit))
        name = getattr(function, "__name__", repr(function))
        self._start()
        try:
            succeeded, answer = self._exchange(name, request, timeout)
        except BaseException as error:
            # Interrupted too: nobody knows what the child is doing.
            self._collect_output()
            self._kill()
            _note(error, self.output)
            raise
        self._collect_output()
        if succeeded:
            return answer
        _note(answer, self.output)
        raise answer

    def close(self) -> None:
        """Ends the child; a later call starts another."""
        self._kill()

    def _exchange(
        self, name: str, request: bytes | None, timeout: float | None
    ) -> tuple[bool, Any]:
        assert self._connection is not None and self._process is not None
        ready: list[Any] = [self._connection]
        answer = b""
        try:
            if request is not None:
                self._connection.send_bytes(request)
            ready = wait([self._connection, self._process.sentinel], timeout)
            # A child that died leaves an end of file, if not an answer, to read.
            if self._connection in ready:
                answer = self._connection.recv_bytes()
        except (EOFError, OSError):
            answer = b""
        if not ready:
            raise TimeoutError(f"{name} ran for more than {timeout:g} s and was stopped")
        if not answer:
            self._process.join()
            code = self._process.exitcode
            raise ChildCrash(f"{name} ended its process with {_status(code)}", code)
        return pickle.loads(answer)

    def _start(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self._kill()
        self._printed, path = tempfile.mkstemp(prefix="emseg-child-")
        try:
            spawn = multiprocessing.get_context("spawn")
            self._connection, theirs = spawn.Pipe()
            self._process = spawn.Process(target=_serve, args=(theirs, path), daemon=True)
            with _no_main_module():
                self._process.start()
            theirs.close()
            # The child says when it is there: until then it has no process group of its own.
            self._exchange("the start of a child", None, None)
        except BaseException:
            self._kill()
            raise
        finally:
            # Both sides hold it open by now: it is gone with the last of them.
            Path(path).unlink()

    def _kill(self) -> None:
        # A child that is gone is left alone: its number may be another process's by now.
        if self._process is not None and self._process.is_alive():
            assert self._process.pid is not None
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        if self._printed is not None:
            os.close(self._printed)
        self._process = self._connection = self._printed = None

    def _collect_output(self) -> None:
        if self._printed is None:
            return
        size = os.fstat(self._printed).st_size
        kept = os.pread(self._printed, KEPT_OUTPUT, max(0, size - KEPT_OUTPUT))
        os.ftruncate(self._printed, 0)
        self.output = kept.decode(errors="replace")


def _serve(connection: Connection, path: str) -> None:
    # A group of its own, so that a kill reaches what it starts and the terminal's Ctrl-C does not:
    # the parent, which gets it, decides.
    os.setpgrp()
    printed = os.open(path, os.O_WRONLY | os.O_APPEND)
    with output_to(printed):
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
        if isinstance(error, MemoryError):
            # numpy's is of a class that cannot travel.
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
def _no_main_module() -> Iterator[None]:
    # A spawned process runs the main module anew; of an empty one it finds no file to run.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


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


def _note(error: BaseException, output: str) -> None:
    if output.strip():
        error.add_note("the child process printed:\n" + output.rstrip())


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"
