"""Fetch a public data set: resumed, tested, compared, and unpacked only when all is in order."""

import hashlib
import shlex
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import hexdigits
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from emseg.errors import UserError, unknown_name
from emseg.stages.runs import say
from emseg.volumes import check_writable, open_volume
from emseg.volumes.atomic import discard, publish, replacing, writing


@dataclass(frozen=True)
class DataSet:
    """A public zip archive, where its tutorial looks for it, and the volumes that are in it."""

    url: str
    folder: str
    shape: tuple[int, int, int]
    images: tuple[str, ...]  # uint8
    labels: tuple[str, ...]  # integers


DATA_SETS = {
    "snemi": DataSet(
        url="http://rhoana.rc.fas.harvard.edu/dataset/snemi.zip",
        folder="datasets/SNEMI",
        shape=(100, 1024, 1024),
        images=("train-input.tif", "test-input.tif"),
        labels=("train-labels.tif",),
    )
}
# Too large to be anybody's next step: what the user is to do instead.
BY_HAND = {
    "nisb": "NISB has terabytes; by hand, from its public bucket: aws s3 sync s3://nisb/base "
    "{folder} --endpoint-url https://s3.nexus.mpcdf.mpg.de --no-sign-request (emseg synth nisb "
    "{folder} writes small cubes in its layout)"
}


def download(name: str, folder: str | None = None, *, sha256: str | None = None) -> None:
    """Nothing; the data set lies in `folder`, or in the one where its tutorial looks for it.

    A transfer that broke off goes on where it ended (`<archive>.partial`). An archive is used once
    its own checksums are right and its SHA-256 is `sha256` and what an earlier call recorded in
    `<archive>.sha256`, where these are given; it stays beside the data. UserError otherwise, and
    for an archive of other volumes than expected, and for a data set of terabytes, `nisb`: the
    command that fetches it.
    """
    if name in BY_HAND:
        raise UserError(BY_HAND[name].format(folder=shlex.quote(folder or "datasets/nisb/base")))
    if name not in DATA_SETS:
        raise unknown_name("data set", name, [*DATA_SETS, *BY_HAND])
    if sha256 is not None and (len(sha256) != 64 or not set(sha256) <= set(hexdigits)):
        raise UserError(f"--sha256 {sha256}: must be 64 hexadecimal digits")
    data = DATA_SETS[name]
    to = Path(folder or data.folder)
    archive = to / Path(data.url).name
    check_writable(to)
    complete = _is_there(data, to)
    if archive.exists():
        _check_archive(archive)
        _check_hash(archive, archive, sha256)
    elif not complete:
        _obtain(data.url, archive, sha256)
    elif sha256 is not None and _recorded(archive) != sha256.lower():
        raise UserError(f"--sha256: {to} holds {name} of another archive, or of one not recorded")
    if complete:
        say(f"{name}: {to} holds it already")
        return
    _unpack(data, archive, to)
    say(f"{name}: unpacked into {to}")


def _is_there(data: DataSet, folder: Path) -> bool:
    """Whether all volumes are; a UserError where one is, but is none of this data set."""
    names = [name for name in (*data.images, *data.labels) if (folder / name).exists()]
    for name in names:
        _check_volume(data, folder, name, cure="move it away")
    return len(names) == len(data.images) + len(data.labels)


def _check_volume(data: DataSet, folder: Path, name: str, *, cure: str) -> None:
    volume = open_volume(folder / name)
    kinds, wanted = ("u", "uint8") if name in data.images else ("ui", "integers")
    fine = volume.dtype.kind in kinds and (name in data.labels or volume.dtype.itemsize == 1)
    if volume.shape != data.shape or volume.channels is not None or not fine:
        raise UserError(
            f"{folder / name}: {volume.shape} of {volume.dtype} is not the data set's volume, "
            f"which is {data.shape} of {wanted}: {cure}"
        )


def _obtain(url: str, archive: Path, sha256: str | None) -> None:
    """The archive under its name, with its record beside it; what is not sound is not kept."""
    partial = archive.with_name(f"{archive.name}.partial")
    # Else it was killed between the last byte and the tests that follow.
    if not is_zipfile(partial):
        _fetch(url, partial, archive)
    try:
        _check_archive(partial)
        _check_hash(partial, archive, sha256)
    except UserError:
        discard(partial)
        raise
    publish(partial, archive)


def _fetch(url: str, partial: Path, archive: Path) -> None:
    """Append to `partial` what it lacks of the file behind the URL."""
    from pooch import HTTPDownloader

    with _hinting(url, partial, archive), partial.open("ab") as file:
        done = file.tell()

        def begin(response: Any, **_: Any) -> None:
            # All of it instead of the rest (200), or no such rest (416): what is here is no use.
            if done and response.status_code in (200, 416):
                say(f"the server does not go on from there (status {response.status_code})")
                file.truncate(0)

        say(f"fetching {url}" + (f" from {done / 1e6:.1f} MB on" if done else ""))
        # What the server compresses on the way has other lengths.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        get = HTTPDownloader(
            progressbar=sys.stderr.isatty(), headers=headers, hooks={"response": begin}
        )
        get(url, file, None)


@contextmanager
def _hinting(url: str, partial: Path, archive: Path) -> Iterator[None]:
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
        raise UserError(
            f"cannot fetch {url} ({why}){kept}; by hand: mkdir -p {archive.parent} && "
            f"cd {archive.parent} && wget {url} && unzip {archive.name}"
        ) from error


def _check_archive(path: Path) -> None:
    try:
        with ZipFile(path) as file:
            broken = file.testzip()
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is no sound zip archive: {error}; fetch it anew") from error
    if broken is not None:
        raise UserError(f"{path}: {broken} in it is damaged; fetch it anew")


def _check_hash(path: Path, archive: Path, sha256: str | None) -> None:
    """Compare with what is wanted and what was recorded; said, and recorded where nothing was."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    known, record = _recorded(archive), _record_of(archive)
    if sha256 is not None and found != sha256.lower():
        raise UserError(f"{archive} has the SHA-256 {found}, not that of --sha256")
    if known is not None and found != known:
        raise UserError(
            f"{archive} has the SHA-256 {found}, an earlier one had {known} ({record}; remove "
            "that file to take the new archive)"
        )
    say(f"{archive}: SHA-256 {found}")
    with replacing(record) as partial:
        partial.write_text(f"{found}  {archive.name}\n")  # as sha256sum writes and reads it


def _record_of(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.sha256")


def _recorded(archive: Path) -> str | None:
    record = _record_of(archive)
    if not record.exists():
        return None
    words = record.read_text(errors="replace").split()
    if not words:
        raise UserError(f"{record} is empty: it is to hold the SHA-256 of {archive}; remove it")
    return words[0]


def _unpack(data: DataSet, archive: Path, to: Path) -> None:
    """All volumes from the archive into the folder, or none of them."""
    wanted, room = (*data.images, *data.labels), to / f"{archive.name}.unpacked"
    with ZipFile(archive) as file:
        names = [name for name in file.namelist() if not name.endswith("/")]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise UserError(
                f"{archive} has no {', '.join(missing)}, but {', '.join(names[:10])}: unpack it by "
                f"hand, and name the volumes {', '.join(wanted)} in {to}"
            )
        try:
            with writing(room):
                discard(room)
                for name in wanted:
                    file.extract(name, room)
            for name in wanted:
                _check_volume(data, room, name, cure=f"see what {archive} is")
            with writing(to):
                for name in wanted:
                    publish(room / name, to / name)
        finally:
            shutil.rmtree(room, ignore_errors=True)
    left = sorted(set(names) - set(wanted))
    if left:
        say(f"left in {archive}: {', '.join(left[:10])}")
