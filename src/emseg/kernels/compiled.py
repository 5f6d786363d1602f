"""What compiles the kernels, and stores them on the disk until a kernel's source changes."""

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
        # A stored kernel holds those that it calls. numba takes it for current as long as its own
        # file is, so the stamp is of all files of kernels (numba has no setting for it).
        stored = made._cache._cache_file
        stored._source_stamp = (stored._source_stamp, _SOURCES)
        return made

    return compiled if function is None else compiled(function)
