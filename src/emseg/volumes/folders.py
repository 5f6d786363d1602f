"""The files below a folder, where only files and folders may lie."""

import os
from collections.abc import Iterator
from pathlib import Path

from emseg.errors import UserError


def files_below(folder: Path) -> Iterator[str]:
    """The path of every file below the folder, relative to it, in no order.

    Links are followed. UserError for a link to nothing, which a reader would take for an absent
    chunk, for a folder that contains itself, and for pipes, sockets and devices.
    """
    real = Path(os.path.realpath(folder))
    try:
        yield from _below(str(folder), "", (*map(str, real.parents), str(real)))
    except OSError as error:
        raise UserError(f"cannot read '{error.filename or folder}': {error.strerror}") from error


def _below(folder: str, inside: str, above: tuple[str, ...]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = inside + entry.name
            if entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else None
                if real in above:
                    raise UserError(f"'{entry.path}' is a link to a folder that it lies in")
                lower = real or f"{above[-1]}/{entry.name}"
                yield from _below(entry.path, f"{name}/", (*above, lower))
            elif entry.is_file():
                yield name
            elif entry.is_symlink():
                to = Path(entry.path).readlink()
                raise UserError(f"'{entry.path}' is a link to '{to}', which does not exist")
            else:
                raise UserError(f"'{entry.path}' is neither a file nor a folder")
