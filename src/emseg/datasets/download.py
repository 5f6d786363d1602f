"""Fetches public data sets, which appear only when complete and valid: the verb download."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import numpy as np

from emseg.datasets.catalogue import (
    ARCHIVES,
    FILES,
    INSTRUCTIONS,
    Archive,
    PublicFile,
    instructions,
)
from emseg.datasets.converted import open_expected
from emseg.datasets.fetch import check_zip, checked_hash, obtain, recorded, unpacked
from emseg.errors import UserError, unknown_name
from emseg.runs.run_folder import say, working_in
from emseg.volumes import open_volume
from emseg.volumes.atomic import publish, writing

VOLUME = "the data set's volume"


def download(name: str, folder: str | None = None, *, sha256: str | None = None) -> None:
    """Fetches a public data set.

    An interrupted transfer is resumed. An archive stays next to the data. The SHA-256 of archives
    and files is recorded, and later calls must match it.

    Args:
        name: a name in the catalogue.
        folder: where it goes, None for where its tutorial looks for it.
        sha256: what the hash of an archive must be, None for any.

    Raises:
        UserError: it cannot be fetched, or is not what it should be; or nothing fetches it, and the
        message says what the user must do.
    """
    if name in INSTRUCTIONS:
        raise instructions(name, folder)
    if name in FILES:
        if sha256 is not None:
            raise UserError(f"--sha256 is for one archive, and {name} is several files")
        usual, files = FILES[name]
        _download_files(files, Path(folder or usual))
    elif name in ARCHIVES:
        data = ARCHIVES[name]
        _download_archive(name, data, Path(folder or data.folder), checked_hash(sha256))
    else:
        raise unknown_name("data set", name, [*ARCHIVES, *FILES, *INSTRUCTIONS])


def _download_files(files: Sequence[PublicFile], to: Path) -> None:
    with working_in(to, "emseg download"):
        for public in files:
            file, wanted = to / public.name, public.sha256
            if file.exists():
                say(f"{file} is there already")
                wanted = None  # It is the user's.
            with writing(to):
                file.parent.mkdir(parents=True, exist_ok=True)
            obtain(public.url, file, sha256=wanted, check=partial(_check_file, keys=public.keys))


def _download_archive(name: str, data: Archive, to: Path, sha256: str | None) -> None:
    archive, volumes = to / Path(data.url).name, (*data.images, *data.labels)
    with working_in(to, "emseg download"):
        there = {one: to / one for one in volumes if (to / one).exists()}
        _check_volumes(data, there)
        complete = len(there) == len(volumes)
        if archive.exists() or not complete:
            obtain(data.url, archive, sha256=sha256, check=check_zip)
        elif sha256 not in (None, recorded(archive)):
            raise UserError(
                f"--sha256: {to} holds {name} of another archive, or of one not recorded"
            )
        if not complete:
            _unpack(data, archive, to)
            say(f"{name}: unpacked into {to}")
        elif recorded(archive):
            say(f"{name}: {to} holds it already")
        else:
            # Synthetic ones have the same names.
            shape = open_volume(to / data.images[0]).shape
            unknown = f"from no archive of record: {data.images[0]} has the shape {shape}"
            say(f"{name}: {to} holds it already, {unknown}")


def _unpack(data: Archive, archive: Path, to: Path) -> None:
    """Puts all volumes of the archive, from any folder in it, into the folder, or none."""
    members = _members(data, archive, to)
    with unpacked(archive, [*members.values()]) as folder:
        volumes = {name: folder / member for name, member in members.items()}
        _check_volumes(data, volumes)
        with writing(to):
            for name, path in volumes.items():
                publish(path, to / name)


def _members(data: Archive, archive: Path, to: Path) -> dict[str, str]:
    """The archive's member for each volume; UserError unless there is exactly one."""
    with ZipFile(archive) as file:
        names = [name for name in file.namelist() if not name.endswith("/")]
    wanted = (*data.images, *data.labels)
    found = {name: [at for at in names if PurePosixPath(at).name == name] for name in wanted}
    missing = [name for name in wanted if not found[name]]
    twice = [" and ".join(members) for members in found.values() if len(members) > 1]
    if missing or twice:
        holds = f"no {', '.join(missing)}, but {', '.join(names[:10])}" if missing else twice[0]
        raise UserError(
            f"{archive} has {holds}: unpack it by hand, and name the volumes "
            f"{', '.join(wanted)} in {to}"
        )
    members = {name: found[name][0] for name in wanted}
    left = sorted({*names} - {*members.values()})
    if left:
        say(f"left in {archive}: {', '.join(left[:10])}")
    return members


def _check_volumes(data: Archive, paths: Mapping[str, Path]) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, path in paths.items():
        image, shape = name in data.images, data.shape
        if not image and shape is None:
            shape = shapes.get(data.images[data.labels.index(name)])
        dtype = np.uint8 if image else np.integer
        shapes[name] = open_expected(path, dtype, what=VOLUME, shape=shape).shape


def _check_file(path: Path, keys: Sequence[str]) -> None:
    shape: tuple[int, ...] | None = None
    for at, key in enumerate(keys):
        dtype = np.integer if at else np.uint8
        shape = open_expected(f"{path}:{key}", dtype, what=VOLUME, shape=shape).shape
