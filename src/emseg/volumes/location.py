"""Where a volume is: a file or folder of a known format and the data set inside it."""

import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emseg.errors import UserError, did_you_mean, unknown_name

Format = Literal["hdf5", "zarr", "tiff", "sections", "precomputed"]

_FORMATS: dict[str, Format] = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".hdf": "hdf5",
    ".zarr": "zarr",
    ".tif": "tiff",
    ".tiff": "tiff",
}

# Images of one section each.
PICTURES = (".png", ".jpg", ".jpeg")

# The data set that is written, and that is read if a file holds several and none is named.
MAIN = "main"


# Path leaves one slash of a URL.
_SCHEME = re.compile(r"(?:precomputed|https?|s3|gs):/|[a-z][a-z0-9]*://", re.IGNORECASE)
_ANY = r"(?:https?|s3|gs)://[^/]+/+"
_REMOTE: dict[re.Pattern[str], Format] = {
    re.compile(rf"({_ANY}.*?\.zarr)(?:[:/]+(.*?)/*)?"): "zarr",
    re.compile(rf"(precomputed://{_ANY}[^:]+?)/*(?::(.*))?"): "precomputed",
}


@dataclass(frozen=True)
class Location:
    """Where an array is.

    Attributes:
        path: its file (for zarr and sections a folder), or its URL as a string.
        key: the key inside it, of sections a pattern of names, of precomputed a scale; "" if none
            is named.
        format: given by the suffix, or the beginning of a URL.
    """

    path: Path | str
    key: str
    format: Format

    def __str__(self) -> str:
        return f"{self.path}:{self.key}" if self.key else str(self.path)

    @property
    def remote(self) -> bool:
        """Whether it is at a URL."""
        return isinstance(self.path, str)


def parse_location(location: str | Path) -> Location:
    """The file, the key inside it and the format that a location names; none of it need exist.

    Args:
        location: a file, with a key after a colon or a slash: `a.h5:volumes/raw`, `a.zarr/img`. A
            folder without such a suffix, or a pattern of folders, is one of section images, with
            their pattern as its key: `sections`, `sections:raw_*.tif`; `a.png` is one section.
            Or a URL: `https://host/a.zarr/key`, `precomputed://gs://bucket/folder:scale`.

    Raises:
        UserError: the suffix or scheme is another one; a URL has a user or a query.
    """
    text = str(location)
    if is_url(text):
        return _remote(text)
    folder, _, pattern = text.partition(":")
    if folder and _is_folder(Path(folder)):
        return Location(Path(folder), pattern, "sections")
    for end in [*(match.start() for match in re.finditer("[:/]", text)), len(text)]:
        path = Path(text[:end])
        if end and path.suffix.lower() in _FORMATS:
            return Location(path, text[end + 1 :].strip("/"), _FORMATS[path.suffix.lower()])
    if text.lower().endswith(PICTURES):
        return Location(Path(text).parent, Path(text).name, "sections")
    raise UserError(
        f"'{text}' names no volume: a file must end in one of "
        f"{', '.join([*_FORMATS, *PICTURES])}, or be a folder of section images"
    )


def is_url(location: str | Path) -> bool:
    """Whether it is a URL, or a Path of one."""
    return _SCHEME.match(str(location)) is not None


def require_local(location: str | Path, what: str) -> None:
    """Raises UserError for a URL where `what`, such as --input, can only be a local file."""
    if is_url(location):
        shown = re.sub(":/+", "://", str(location))
        raise UserError(f"{what} '{shown}': URLs are of volumes alone, which are only read")


def _remote(text: str) -> Location:
    text = re.sub(":/+", "://", text)
    if re.search("://[^/]*@|[?#]", text):
        raise UserError(
            "a URL with a user, '?' or '#' is refused, since results name it: credentials come "
            "from the environment"
        )
    for pattern, name in _REMOTE.items():
        if match := pattern.fullmatch(text):
            return Location(match[1], match[2] or "", name)
    raise UserError(
        f"'{text}' names no remote volume: allowed are https://, s3:// and gs:// with a folder "
        "that ends in .zarr, and precomputed:// before one of any folder"
    )


def _is_folder(path: Path) -> bool:
    """Whether it is a folder, or a pattern of folders."""
    inside = any(part.suffix.lower() in _FORMATS for part in (path, *path.parents))
    if inside or path.suffix in (".n5", ".precomputed"):
        return False
    return path.is_dir() or any(Path(found).is_dir() for found in glob.iglob(str(path)))  # noqa: PTH207


def output_format(path: Path) -> Literal["hdf5", "zarr"]:
    """The format that a file to be written has by its suffix.

    Raises:
        UserError: it is TIFF or another that is not written.
    """
    found = _FORMATS.get(path.suffix.lower())
    if found is None or found == "tiff":
        allowed = [suffix for suffix, name in _FORMATS.items() if name != "tiff"]
        raise UserError(f"cannot write '{path}': a volume must end in one of {', '.join(allowed)}")
    return found


def require_there(location: Location) -> None:
    """Checks that the file (for zarr and sections: the folder) is there; its key is not looked for.

    Raises:
        UserError: it is missing (the message has the nearest name), or of another kind.
    """
    if location.remote:  # Opening it asks.
        return
    kind = _kind(location.path)
    wanted = "folder" if location.format in ("zarr", "sections") else "file"
    if kind != wanted:
        raise UserError(f"'{location.path}' is a {kind}; a volume of this suffix is a {wanted}")


def require_regular(path: Path) -> None:
    """Checks that the path is, or links to, a file: reading a pipe may never end.

    Raises:
        UserError: it is missing or something else.
    """
    kind = _kind(path)
    if kind != "file":
        raise UserError(f"'{path}' is a {kind}, not a file")


def pick_dataset(keys: Sequence[str], wanted: str, *, where: Path) -> str:
    """The one of `keys` that is `wanted`, or alone or called `main` below it; else UserError."""
    prefix = f"{wanted}/" if wanted else ""
    below = [key for key in keys if key.startswith(prefix)]
    if wanted in keys:
        return wanted
    if len(below) == 1:
        return below[0]
    if prefix + MAIN in below:
        return prefix + MAIN
    if not keys:
        raise UserError(f"'{where}' holds no data set")
    if wanted and not below:
        raise unknown_name("data set", wanted, keys, where=f"'{where}'")
    raise UserError(
        f"'{where}' holds several data sets; name one as '{where}:{below[0]}' "
        f"(there are: {', '.join(sorted(below))})"
    )


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


def _kind(path: Path) -> str:
    """What is there: file, folder, pipe, socket or device; UserError if there is nothing."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path) from error
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"'{path}' is no path: {error}") from error
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "pipe"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def _missing(path: Path) -> UserError:
    if path.is_symlink():
        return UserError(f"'{path}' is a link to '{path.readlink()}', which does not exist")
    part = path
    while not part.parent.is_dir():
        part = part.parent
    beside = (entry.name for entry in part.parent.iterdir())
    cause = "" if part == path else f", for there is no folder '{part}'"
    hint = did_you_mean(part.name, beside, before=str(part).removesuffix(part.name))
    return UserError(f"'{path}' does not exist{cause}{hint}")


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
