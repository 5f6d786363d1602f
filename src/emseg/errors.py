"""Errors of the user, in one line each."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct; its text is one line on standard error (exit code 2)."""

    def line(self) -> str:
        """The text as one line: libraries and files may give line breaks or control codes."""
        text = " ".join(str(self).splitlines())
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def nearest(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name most like `name`, or None if none is similar."""
    matches = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_name(what: str, name: str, allowed: Iterable[str], *, where: str = "") -> UserError:
    """The error for an unknown name: what it is, what is allowed, the nearest name.

    `what` is the kind of name ("metric", "key of the decoder"), `where` in which key or file.
    """
    names = sorted(allowed)
    guess = nearest(name, names)
    place = f" in {where}" if where else ""
    hint = f"; did you mean '{guess}'?" if guess else ""
    return UserError(
        f"unknown {what} '{name}'{place}{hint} (allowed: {', '.join(names) or 'none'})"
    )
