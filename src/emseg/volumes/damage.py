"""What a library raises on a damaged file, turned into one line for the user."""

from collections.abc import Iterator
from contextlib import contextmanager

from emseg.errors import UserError


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


def _reason(error: Exception) -> str:
    # A KeyError's text is only the key, in quotes; other classes may have no text at all.
    text = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
    return text or type(error).__name__
