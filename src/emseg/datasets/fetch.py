"""Fetches a public file: resumable, present only when valid, its hash recorded."""

import shutil
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import hexdigits
from typing import Any
from zipfile import BadZipFile, ZipFile

from emseg.errors import UserError
from emseg.runs.run_folder import say
from emseg.volumes.atomic import discard, publish, replacing, writing


def obtain(
    url: str, file: Path, *, sha256: str | None, check: Callable[[Path], object] | None = None
) -> None:
    """Puts what a URL has under the file's name, and its SHA-256 into `<file>.sha256`.

    An existing file is compared, not fetched. An interrupted transfer leaves `<file>.partial`, and
    the next call continues from there. UserError if there is no transfer, or if the file has
    another hash or does not pass the `check`: then it is removed, if it was fetched.
    """
    fetched = not file.exists()
    if fetched:
        _transfer(url, file)
    try:
        if check is not None:
            check(file)
        _compare_hash(file, sha256)
    except UserError:
        if fetched:
            discard(file)
        raise


def recorded(file: Path) -> str | None:
    """The SHA-256 that an earlier call recorded for the file, or None; UserError for no hash."""
    record = _record_of(file)
    if not record.exists():
        return None
    words = record.read_text(errors="replace").split()
    if not words:
        raise UserError(f"{record} is empty: it is to hold the SHA-256 of {file}; remove it")
    return words[0]


def checked_hash(sha256: str | None) -> str | None:
    """The hash that the user gives, in lower case; UserError if it is not a hash."""
    if sha256 is not None and (len(sha256) != 64 or not set(sha256) <= set(hexdigits)):
        raise UserError(f"--sha256 {sha256}: must be 64 hexadecimal digits")
    return sha256 and sha256.lower()


def check_zip(path: Path) -> None:
    """Raises a UserError unless the checksums in a zip archive are those of its members."""
    try:
        with ZipFile(path) as file:
            broken = file.testzip()
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is not a valid zip archive: {error}; fetch it anew") from error
    if broken is not None:
        raise UserError(f"{path}: {broken} in it is damaged; fetch it anew")


@contextmanager
def unpacked(archive: Path, members: Sequence[str] | None = None) -> Iterator[Path]:
    """A temporary folder next to a zip archive, with its members or some of them."""
    from pooch import Unzip, get_logger

    get_logger().setLevel("WARNING")
    folder = archive.with_name(f"{archive.name}.unpacked")
    try:
        with writing(folder):
            discard(folder)
            Unzip(members, folder.name)(str(archive.absolute()), "download", None)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _record_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _compare_hash(file: Path, sha256: str | None) -> None:
    """Compares the file's hash with the wanted and the recorded one, and records it."""
    from pooch import file_hash

    found, known, record = file_hash(file), recorded(file), _record_of(file)
    if sha256 not in (None, found):
        raise UserError(f"{file} has the SHA-256 {found}, not the wanted {sha256}")
    if known not in (None, found):
        raise UserError(
            f"{file} has the SHA-256 {found}, an earlier one had {known} ({record}; remove "
            f"that file to take the new {'archive' if file.suffix == '.zip' else 'file'})"
        )
    say(f"{file}: SHA-256 {found}")
    with replacing(record) as partial:
        partial.write_text(f"{found}  {file.name}\n")  # as sha256sum writes and reads it


def _transfer(url: str, file: Path) -> None:
    """Fetches the file, continuing from what an earlier transfer left in `<file>.partial`."""
    from pooch import HTTPDownloader

    partial = file.with_name(f"{file.name}.partial")
    done = partial.stat().st_size if partial.exists() else 0
    say(f"fetching {url}" + (f" from {done / 1e6:.1f} MB on" if done else ""))
    # With compression by the server, lengths would differ.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    try:
        with partial.open("ab") as opened:

            def begin(response: Any, **_: Any) -> None:
                # The whole file instead of the rest (200), or no such rest (416).
                useless = response.status_code in (200, 416) and not _is_whole(response, done)
                if done and useless:
                    say(f"the server does not go on from there (status {response.status_code})")
                    opened.truncate(0)

            bar, hooks = sys.stderr.isatty(), {"response": begin}
            HTTPDownloader(progressbar=bar, headers=headers, hooks=hooks)(url, opened, None)
    except (OSError, ValueError) as error:
        if not _is_whole(getattr(error, "response", None), done):
            raise _broken_off(url, partial, file, error) from error
    publish(partial, file)


def _is_whole(response: Any, done: int) -> bool:
    """Whether the server says that nothing is left: a process was killed after the last byte."""
    asked_beyond = response is not None and response.status_code == 416
    return asked_beyond and response.headers.get("Content-Range") == f"bytes */{done}"


def _broken_off(url: str, partial: Path, file: Path, error: Exception) -> UserError:
    response = getattr(error, "response", None)
    why = type(error).__name__ if response is None else f"status {response.status_code}"
    size = partial.stat().st_size if partial.exists() else 0
    if not size:
        discard(partial)
    there = f"; {size / 1e6:.1f} MB are there, the same command goes on from there" if size else ""
    unpack = f" && unzip {file.name}" if file.suffix == ".zip" else ""
    return UserError(
        f"cannot fetch {url} ({why}){there}; by hand: mkdir -p {file.parent} && "
        f"cd {file.parent} && wget {url}{unpack}"
    )
