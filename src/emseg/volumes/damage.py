"""Errors of libraries on damaged files, turned into one line for the user."""

from collections.abc import Iterator
from contextlib import contextmanager

from emseg.errors import UserError


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Within it any exception, but for a UserError, is raised as a UserError.

    On damaged files, libraries and their codecs raise exceptions of every class.

    Args:
        what: the beginning of the message ("cannot read 'a.h5'").

    Raises:
        UserError: in place of the exception.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # A KeyError's text is only the key, in quotes; other classes may have no text at all.
        name = type(error).__name__
        reason = f"{name} {error}" if isinstance(error, KeyError) else str(error) or name
        raise UserError(f"{what}: {reason}") from error
