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
        # A stored kernel holds those that it calls, but numba looks at the time of its own file
        # alone, and unpickles what an older source has stored to do so, which fails where a class
        # has another name by now. What it compares before is its version (no setting for either).
        made._cache._cache_file._version += f" {_SOURCES}"
        return made

    return compiled if function is None else compiled(function)
