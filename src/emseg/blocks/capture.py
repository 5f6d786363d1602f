"""Output of native code, which sys.stdout never sees."""

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
    """Nothing; meanwhile all that Python, C or C++ print to `streams` goes to the open descriptor.

    This is a matter of the whole process: what other threads print meanwhile goes there too.
    """
    flush_output()
    numbers = [_NUMBERS[stream] for stream in streams]
    saved = [os.dup(number) for number in numbers]
    # sys.stdout need not be descriptor 1 (a notebook, a test runner), so it is turned by itself.
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
    """Hands what Python and C have buffered for standard output and error to their descriptors."""
    sys.stdout.flush()
    sys.stderr.flush()
    # C and C++ keep a buffer of their own.
    ctypes.CDLL(None).fflush(None)
