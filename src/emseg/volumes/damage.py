"""Errors of libraries on damaged files, turned into one line for the user."""

import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emseg.errors import UserError

# Bytes of memory per byte of a file: arrays compress well, graphs become many objects.
LARGEST_GROWTH = 64
MARGIN = 1 << 30


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turns any exception raised inside into a UserError that begins with `what`.

    For calls of libraries on files that may hold anything: h5py, zarr and their codecs raise
    exceptions of every class, MemoryError for an impossible size. A UserError passes unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {_reason(error)}") from error


@contextmanager
def bounded_memory(files: Iterable[Path]) -> Iterator[None]:
    """Makes reading these files fail with MemoryError if it needs far more than their size.

    For formats in which a few bytes may ask for any amount, such as pickle. The limit holds for the
    whole process, inside the `with` block.
    """
    most = MARGIN + LARGEST_GROWTH * sum(file.stat().st_size for file in files)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = min([in_use + most, *(bound for bound in (soft, hard) if bound >= 0)])
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _reason(error: Exception) -> str:
    # A KeyError's text is only the key, in quotes; other classes may have no text at all.
    text = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
    return text or type(error).__name__
