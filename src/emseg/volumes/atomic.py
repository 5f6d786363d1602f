"""Files and folders that appear whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emseg.errors import UserError
from emseg.volumes.location import require_local


def check_writable(folder: str | Path) -> None:
    """Creates the folder if it is missing, and checks that files can be made in it.

    Raises:
        UserError: the folder, or a file in it, cannot be made.
    """
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within it a refusal of the file system (no permission, no space) is raised as a UserError.

    Raises:
        UserError: in place of any OSError; it names `path`. Or that is a URL.
    """
    require_local(path, "cannot write")
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, *, old_to: Path | None = None) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it at the end, or is removed on an error.

    A temporary file that a killed process left behind is overwritten by the next.

    Args:
        path: a file or folder; the folder above it is created if it is missing.
        old_to: where an older one at `path` is moved. None: it is deleted.

    Raises:
        UserError: in place of any OSError.
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
    """Renames a finished file or folder, also onto an older one.

    Args:
        made: the finished one, in the same file system as `path`.
        path: its new name.
        old_to: where an older one is moved, replacing anything there. None: it is deleted, if both
            are files or both folders.
    """
    if made.is_file():
        with made.open("rb") as file:
            os.fsync(file.fileno())
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
    made.replace(path)


def discard(path: Path) -> None:
    """Removes a file, or a folder with its contents, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
