"""What a library raises on a damaged file, turned into one line for the user."""

import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from emseg.errors import UserError

# Bytes of memory for a byte of a file: arrays compress well, graphs grow by objects.
LARGEST_GROWTH = 64
MARGIN = 1 << 30


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turns whatever is raised inside into a UserError that begins with `what`.

    For calls of libraries on files that may hold anything: h5py, zarr and their codecs raise
    classes of every kind, MemoryError for a size that no machine has. A UserError goes through as
    it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what}: {_reason(error)}") from error


@contextmanager
def bounded_memory(files: Iterable[Path]) -> Iterator[None]:
    """Makes what reads these files fail with MemoryError when it asks for far more than they hold.

    For formats in which a few bytes may ask for any amount, such as pickle. Holds for the whole
    process, while it lasts.
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
