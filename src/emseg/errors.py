"""Errors of the user, in one line each."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct; its text is one line on standard error (exit code 2)."""

    def line(self) -> str:
        """The text as one line: libraries and files may give line breaks or control codes."""
        text = " ".join(str(self).splitlines())
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def did_you_mean(name: str, allowed: Iterable[str], *, before: str = "") -> str:
    """The end of an error line that asks for the nearest allowed name; empty if none is similar.

    Args:
        name: the unknown one.
        allowed: the names there are.
        before: is put before the nearest name (a folder).
    """
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{before}{matches[0]}'?" if matches else ""


def unknown_name(what: str, name: str, allowed: Iterable[str], *, where: str = "") -> UserError:
    """The error for an unknown name: what it is, what is allowed, the nearest name.

    Args:
        what: the kind of name ("metric", "key of the decoder").
        name: the unknown one.
        allowed: the names there are.
        where: in which key or file.
    """
    names = sorted(allowed)
    hint = did_you_mean(name, names)
    place = f" in {where}" if where else ""
    return UserError(
        f"unknown {what} '{name}'{place}{hint} (allowed: {', '.join(names) or 'none'})"
    )
