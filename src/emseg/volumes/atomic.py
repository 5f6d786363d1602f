"""Files and folders that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emseg.errors import UserError


def check_writable(folder: str | Path) -> None:
    """Creates the folder if it is missing; raises UserError if no file can be made in it."""
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a refusal of the file system (no permission, no space) into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, *, old_to: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it at the end, or is removed on an error.

    What was at `path` is moved to `old_to`, or deleted. A temporary file that a killed process left
    behind is overwritten by the next.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            discard(temporary)
            yield temporary
            publish(temporary, path, old_to=old_to)
        finally:
            discard(temporary)


def publish(made: Path, path: Path, *, old_to: Path | None = None) -> None:
    """Renames the finished file or folder `made`; an old one moves to `old_to` or is deleted."""
    folders = made.is_dir() and path.is_dir()
    if path.exists() and (folders or old_to is not None):
        # A folder cannot be renamed onto a non-empty one. A kill between the two renames leaves
        # both, the new one whole under its own name and the old one as `.replaced` or `old_to`.
        replaced = old_to or path.with_name(f"{path.name}.replaced")
        discard(replaced)
        path.rename(replaced)
        made.rename(path)
        if old_to is None:
            discard(replaced)
        return
    if made.is_file():
        with made.open("rb") as file:
            os.fsync(file.fileno())
    made.replace(path)


def discard(path: Path) -> None:
    """Removes a file, or a folder with its contents, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
