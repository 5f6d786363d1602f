"""Captures the output of native code, which does not use sys.stdout."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Literal

_NUMBERS = {"stdout": 1, "stderr": 2}


@contextmanager
def output_to(
    descriptor: int, *, streams: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
) -> Iterator[None]:
    """While active, all that Python, C or C++ print to `streams` goes to the open descriptor.

    This holds for the whole process: the output of other threads goes there too.
    """
    flush_output()
    numbers = [_NUMBERS[stream] for stream in streams]
    saved = [os.dup(number) for number in numbers]
    # sys.stdout may not be descriptor 1 (in a notebook, a test runner): redirect both.
    with os.fdopen(os.dup(descriptor), "w", buffering=1) as text, ExitStack() as stack:
        if "stdout" in streams:
            stack.enter_context(redirect_stdout(text))
        if "stderr" in streams:
            stack.enter_context(redirect_stderr(text))
        try:
            for number in numbers:
                os.dup2(descriptor, number)
            yield
        finally:
            flush_output()
            for number, original in zip(numbers, saved, strict=True):
                os.dup2(original, number)
                os.close(original)


def flush_output() -> None:
    """Flushes the buffers of Python and C for standard output and error."""
    sys.stdout.flush()
    sys.stderr.flush()
    # C and C++ have their own buffer.
    ctypes.CDLL(None).fflush(None)
