"""Compiles the kernels, and caches them on disk until a kernel's source changes."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

_FILES = sorted(Path(__file__).parent.glob("*.py"))
_SOURCES = hashlib.sha256(b"".join(file.read_bytes() for file in _FILES)).hexdigest()


def kernel(function: Callable | None = None, *, inline: str = "never") -> Any:
    """The function, compiled by numba when it is called, without the GIL; a decorator.

    Args:
        function: what is compiled; None where the decorator has arguments.
        inline: "always" where it becomes a part of each function that calls it.

    Returns:
        The compiled function, or without `function` a decorator that returns it.
    """

    def compiled(function: Callable) -> Any:
        made = njit(cache=True, nogil=True, inline=inline)(function)
        # A cached kernel contains the kernels that it calls, but numba checks the time of its own
        # file only. To do so it unpickles the old cache, which fails if a class was renamed since.
        # It compares its version before that, hence the change here (there is no setting for it).
        made._cache._cache_file._version += f" {_SOURCES}"
        return made

    return compiled if function is None else compiled(function)
