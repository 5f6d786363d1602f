"""Calls in a child process, which can be stopped, may crash, and whose output is captured."""

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from emseg.blocks.serving import serve

# How much of the end of a call's output is stored: enough for a native library's last message.
MOST_OUTPUT = 64 * 1024

_NAME = "emseg-child"


class ChildCrash(RuntimeError):
    """The child ended during a call: `exitcode` is its status, negative for a signal."""

    def __init__(self, message: str, exitcode: int | None) -> None:
        super().__init__(message)
        self.exitcode = exitcode


class ChildWorker(AbstractContextManager["ChildWorker"]):
    """A spawned process that runs one call after the other and is replaced when it is stopped.

    It lives across calls, so that modules are imported and kernels compiled only once. Unlike other
    spawned processes it does not run the main module again: a script needs no guard, the child
    imports only what its functions need, and these cannot be in the main module. Its temporary
    files are removed when it ends, and its own children are ended.

    Attributes:
        output: what the last call printed to standard output and error, native code included; of
            long output the end.
    """

    def __init__(self) -> None:
        self.output = ""
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._printed: int | None = None

    def __exit__(self, *_: object) -> None:
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
        """The result of `function(*args, **kwargs)`, run in the child.

        After a timeout or a crash the next call starts a new child.

        Args:
            function: importable; its arguments and result can be pickled.
            timeout: seconds, with the function's imports, without the start of a new child; after
                these the child and its process group are killed. None: no limit.
            memory_limit: bytes by which the child's address space may grow after the function's
                import (mapped files count). None: no limit.

        Raises:
            Exception: whatever the function raises, with the child's output as a note.
            TimeoutError: the call took longer than `timeout`.
            MemoryError: the child needs more than `memory_limit`.
            ChildCrash: the child died, possibly in native code that got no memory.
            UserError: there is a `memory_limit`, and the system is not Linux.
        """
        # Pickled first: a function that cannot be pickled must not cost a child.
        request = pickle.dumps((function, args, kwargs, memory_limit))
        name = getattr(function, "__name__", repr(function))
        self._start()
        try:
            succeeded, answer = self._exchange(name, request, timeout)
        except BaseException as error:
            # Also if interrupted, since the state of the child is then unknown.
            self._collect_output()
            self.close()
            _note(error, self.output)
            raise
        self._collect_output()
        if succeeded:
            return answer
        _note(answer, self.output)
        raise answer

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
            # A child that died leaves an answer or an end of file to read.
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
        self.close()
        # Killed processes may still write for a moment; errors of that must not hide the reason.
        self._folder = tempfile.TemporaryDirectory(prefix=f"{_NAME}-", ignore_cleanup_errors=True)
        self._printed, path = tempfile.mkstemp(dir=self._folder.name)
        try:
            spawn = multiprocessing.get_context("spawn")
            self._connection, theirs = spawn.Pipe()
            nested = multiprocessing.current_process().name == _NAME
            self._process = spawn.Process(
                target=serve,
                args=(theirs, self._folder.name, path, nested),
                name=_NAME,
                daemon=True,
            )
            with _no_main_module():
                self._process.start()
            theirs.close()
            # Wait for the child's message: before that it has no process group of its own.
            self._exchange("the start of a child", None, None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the child; a later call starts a new one."""
        # A child that has ended is not killed: its number may belong to another process now.
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
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._connection = self._printed = self._folder = None

    def _collect_output(self) -> None:
        if self._printed is None:
            return
        size = os.fstat(self._printed).st_size
        end = os.pread(self._printed, MOST_OUTPUT, max(0, size - MOST_OUTPUT))
        os.ftruncate(self._printed, 0)
        self.output = end.decode(errors="replace")


@contextmanager
def _no_main_module() -> Iterator[None]:
    # A spawned process runs the main module again; an empty one has no file to run.
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _note(error: BaseException, output: str) -> None:
    if output.strip():
        error.add_note("the child process printed:\n" + output.rstrip())


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"
