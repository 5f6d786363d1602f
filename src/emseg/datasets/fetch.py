"""One public file fetched: resumed where it broke off, kept only when sound, its hash recorded."""

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emseg.errors import UserError
from emseg.progress import say
from emseg.volumes.atomic import discard, publish, replacing

Check = Callable[[Path], None]


def obtain(url: str, file: Path, *, check: Check, sha256: str | None) -> None:
    """The file under its name, with its record beside it; what is not sound is not kept.

    `check` raises a UserError for a file that is not whole or not what it should be.
    """
    partial = file.with_name(f"{file.name}.partial")
    # Else it was killed between the last byte and the tests that follow.
    if not _passes(check, partial):
        _fetch(url, partial, file)
    try:
        check(partial)
        check_hash(partial, file, sha256)
    except UserError:
        discard(partial)
        raise
    publish(partial, file)


def check_hash(path: Path, file: Path, sha256: str | None) -> None:
    """Compare with what is wanted and what was recorded; said, and recorded where nothing was.

    `path` holds the bytes, `file` is the name that they have or are to get.
    """
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    known, record = recorded(file), _record_of(file)
    if sha256 is not None and found != sha256.lower():
        raise UserError(f"{file} has the SHA-256 {found}, not the wanted {sha256.lower()}")
    if known is not None and found != known:
        raise UserError(
            f"{file} has the SHA-256 {found}, an earlier one had {known} ({record}; remove "
            f"that file to take the new {'archive' if file.suffix == '.zip' else 'file'})"
        )
    say(f"{file}: SHA-256 {found}")
    with replacing(record) as partial:
        partial.write_text(f"{found}  {file.name}\n")  # as sha256sum writes and reads it


def recorded(file: Path) -> str | None:
    """The SHA-256 that an earlier call recorded for the file, or None; UserError for no hash."""
    record = _record_of(file)
    if not record.exists():
        return None
    words = record.read_text(errors="replace").split()
    if not words:
        raise UserError(f"{record} is empty: it is to hold the SHA-256 of {file}; remove it")
    return words[0]


def _record_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _passes(check: Check, partial: Path) -> bool:
    if not partial.exists():
        return False
    try:
        check(partial)
    except UserError:
        return False
    return True


def _fetch(url: str, partial: Path, file: Path) -> None:
    """Append to `partial` what it lacks of the file behind the URL."""
    from pooch import HTTPDownloader

    with _hinting(url, partial, file), partial.open("ab") as opened:
        done = opened.tell()

        def begin(response: Any, **_: Any) -> None:
            # All of it instead of the rest (200), or no such rest (416): what is here is no use.
            if done and response.status_code in (200, 416):
                say(f"the server does not go on from there (status {response.status_code})")
                opened.truncate(0)

        say(f"fetching {url}" + (f" from {done / 1e6:.1f} MB on" if done else ""))
        # What the server compresses on the way has other lengths.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        get = HTTPDownloader(
            progressbar=sys.stderr.isatty(), headers=headers, hooks={"response": begin}
        )
        get(url, opened, None)


@contextmanager
def _hinting(url: str, partial: Path, file: Path) -> Iterator[None]:
    """Turns what goes wrong with a transfer into a UserError with what can be done instead."""
    try:
        yield
    except (OSError, ValueError) as error:
        response = getattr(error, "response", None)
        why = type(error).__name__ if response is None else f"status {response.status_code}"
        size = partial.stat().st_size if partial.exists() else 0
        if not size:
            discard(partial)
        kept = (
            f"; {size / 1e6:.1f} MB are kept, the same command goes on from there" if size else ""
        )
        unpack = f" && unzip {file.name}" if file.suffix == ".zip" else ""
        raise UserError(
            f"cannot fetch {url} ({why}){kept}; by hand: mkdir -p {file.parent} && "
            f"cd {file.parent} && wget {url}{unpack}"
        ) from error
