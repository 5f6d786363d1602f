"""Fetch a public data set: resumed, tested, compared, and there only when all is in order."""

import shutil
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from string import hexdigits
from urllib.parse import unquote
from zipfile import BadZipFile, ZipFile

import numpy as np

from emseg.datasets.by_hand import BY_HAND, by_hand
from emseg.datasets.cremi_files import CLEFTS, NEURONS, RAW
from emseg.datasets.fetch import check_hash, obtain, recorded
from emseg.datasets.weights import download_weights
from emseg.errors import UserError, unknown_name
from emseg.progress import say
from emseg.runs.lock import working_in
from emseg.volumes import Volume, open_volume
from emseg.volumes.atomic import discard, publish, writing
from emseg.volumes.hdf5 import Hdf5Array


@dataclass(frozen=True)
class DataSet:
    """A public zip archive, where its tutorial looks for it, and the volumes that are in it.

    Where the archive is no one's promise, the volumes have no known `shape` (None): the labels
    have that of the images, one after the other.
    """

    url: str
    folder: str
    shape: tuple[int, int, int] | None
    images: tuple[str, ...]  # uint8
    labels: tuple[str, ...]  # integers


@dataclass(frozen=True)
class Sample:
    """A public HDF5 file that is used as it is: its labels beside the image, its SHA-256 if known.

    The address ends in the file's name.
    """

    url: str
    labels: tuple[str, ...] = ()
    sha256: str | None = None


DATA_SETS = {
    "snemi": DataSet(
        url="http://rhoana.rc.fas.harvard.edu/dataset/snemi.zip",
        folder="datasets/SNEMI",
        shape=(100, 1024, 1024),
        images=("train-input.tif", "test-input.tif"),
        labels=("train-labels.tif",),
    ),
    "cremi": DataSet(
        url="http://rhoana.rc.fas.harvard.edu/dataset/cremi.zip",
        folder="datasets/corrected",
        shape=None,
        images=tuple(f"im_{sample}.h5" for sample in ("A", "B", "C", "A+", "B+", "C+")),
        labels=tuple(f"syn_{sample}.h5" for sample in "ABC"),
    ),
}
# As other programs that fetch these files have them (torch_em, for one).
_HASHES = {
    "A": "4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d",
    "B": "887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8",
    "C": "2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052",
}
_CREMI = "https://cremi.org/static/data/sample_"
# Where each set of files goes, and the files.
FILES = {
    "cremi-official": (
        "datasets/cremi",
        (
            *(Sample(f"{_CREMI}{at}_20160501.hdf", (NEURONS, CLEFTS), _HASHES[at]) for at in "ABC"),
            *(Sample(f"{_CREMI}{at}%2B_20160601.hdf") for at in "ABC"),
        ),
    )
}
WEIGHTS = "dbmim-weights"


def download(name: str, folder: str | None = None, *, sha256: str | None = None) -> None:
    """Nothing; the data set lies in `folder`, or in the one where its tutorial looks for it.

    A transfer that broke off goes on where it ended (`<file>.partial`). An archive is used once
    its own checksums are right and its SHA-256 is `sha256` and what an earlier call recorded in
    `<archive>.sha256`, where these are given; it stays beside the data. Files that are used as they
    are have a record each, as weights have. UserError otherwise, and for other volumes than
    expected, and for data sets that are too large, `nisb` and `full-em`: how to fetch them.
    """
    if name in BY_HAND:
        raise by_hand(name, folder)
    if sha256 is not None and name in (*FILES, WEIGHTS):
        raise UserError(f"--sha256 is for one archive, and {name} is several files")
    if name == WEIGHTS:
        download_weights(folder)
        return
    if name in FILES:
        usual, samples = FILES[name]
        _download_files(samples, Path(folder or usual))
        return
    if name not in DATA_SETS:
        raise unknown_name("data set", name, [*DATA_SETS, *FILES, WEIGHTS, *BY_HAND])
    check_digits(sha256)
    data = DATA_SETS[name]
    _download_archive(name, data, Path(folder or data.folder), sha256)


def _download_archive(name: str, data: DataSet, to: Path, sha256: str | None) -> None:
    archive = to / Path(data.url).name
    with working_in(to, "emseg download"):
        complete = _is_there(data, to)
        if archive.exists():
            check_archive(archive)
            check_hash(archive, archive, sha256)
        elif not complete:
            obtain(data.url, archive, check=check_archive, sha256=sha256)
        elif sha256 is not None and recorded(archive) != sha256.lower():
            raise UserError(
                f"--sha256: {to} holds {name} of another archive, or of one not recorded"
            )
        if complete:
            first = open_volume(to / data.images[0])
            # Synthetic ones have the same names.
            unknown = f", from no archive of record: {data.images[0]} has the shape {first.shape}"
            say(f"{name}: {to} holds it already{'' if recorded(archive) else unknown}")
            return
        _unpack(data, archive, to)
        say(f"{name}: unpacked into {to}")


def _download_files(samples: tuple[Sample, ...], to: Path) -> None:
    with working_in(to, "emseg download"):
        for sample in samples:
            file = to / unquote(Path(sample.url).name)
            if file.exists():
                _check_sample(file, sample, cure="move it away")
                check_hash(file, file, None)
                say(f"{file} is there already")
            else:
                check = partial(_check_sample, sample=sample, cure=f"see what {sample.url} is")
                obtain(sample.url, file, check=check, sha256=sample.sha256)


def _is_there(data: DataSet, folder: Path) -> bool:
    """Whether all volumes are; a UserError where one is, but is none of this data set."""
    names = [name for name in (*data.images, *data.labels) if (folder / name).exists()]
    for name in names:
        _check_volume(data, folder, name, cure="move it away")
    return len(names) == len(data.images) + len(data.labels)


def _check_volume(data: DataSet, folder: Path, name: str, *, cure: str) -> None:
    volume = open_volume(folder / name)
    shape: tuple[int, ...] | None = data.shape
    if name in data.labels and shape is None:
        image = folder / data.images[data.labels.index(name)]
        shape = open_volume(image).shape if image.exists() else None
    _check_kind(volume, f"{folder / name}", shape, image=name in data.images, cure=cure)


def _check_sample(path: Path, sample: Sample, *, cure: str) -> None:
    image = Hdf5Array(path, RAW)
    _check_kind(image, f"{path}:{RAW}", None, image=True, cure=cure)
    for key in sample.labels:
        labels = Hdf5Array(path, key)
        _check_kind(labels, f"{path}:{key}", image.shape, image=False, cure=cure)


def _check_kind(
    volume: Volume | Hdf5Array,
    where: str,
    shape: tuple[int, ...] | None,
    *,
    image: bool,
    cure: str,
) -> None:
    fine = volume.dtype == np.uint8 if image else volume.dtype.kind in "ui"
    plain = len(volume.shape) == 3 and getattr(volume, "channels", None) is None
    if not fine or not plain or shape not in (None, volume.shape):
        raise UserError(
            f"{where}: {volume.shape} of {volume.dtype} is not the data set's volume, "
            f"which is {shape or 'three axes'} of {'uint8' if image else 'integers'}: {cure}"
        )


def check_digits(sha256: str | None) -> None:
    """Nothing, where a given hash can be one."""
    if sha256 is not None and (len(sha256) != 64 or not set(sha256) <= set(hexdigits)):
        raise UserError(f"--sha256 {sha256}: must be 64 hexadecimal digits")


def check_archive(path: Path) -> None:
    """Nothing, where the checksums in a zip archive are those of its members."""
    try:
        with ZipFile(path) as file:
            broken = file.testzip()
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is no sound zip archive: {error}; fetch it anew") from error
    if broken is not None:
        raise UserError(f"{path}: {broken} in it is damaged; fetch it anew")


def _unpack(data: DataSet, archive: Path, to: Path) -> None:
    """All volumes from the archive, wherever they lie in it, into the folder, or none of them."""
    wanted, room = (*data.images, *data.labels), to / f"{archive.name}.unpacked"
    with ZipFile(archive) as file:
        names = [name for name in file.namelist() if not name.endswith("/")]
        members = _members(names, wanted, archive, to)
        try:
            with writing(room):
                discard(room)
                room.mkdir()
                for name, member in members.items():
                    with file.open(member) as stored, (room / name).open("wb") as out:
                        shutil.copyfileobj(stored, out)
            for name in wanted:
                _check_volume(data, room, name, cure=f"see what {archive} is")
            with writing(to):
                for name in wanted:
                    publish(room / name, to / name)
        finally:
            shutil.rmtree(room, ignore_errors=True)
    left = sorted(set(names) - {*members.values()})
    if left:
        say(f"left in {archive}: {', '.join(left[:10])}")


def _members(names: list[str], wanted: tuple[str, ...], archive: Path, to: Path) -> dict[str, str]:
    """The archive's member for each wanted name; UserError where there is not just one."""
    found = {name: [at for at in names if PurePosixPath(at).name == name] for name in wanted}
    by_hand = f"unpack it by hand, and name the volumes {', '.join(wanted)} in {to}"
    missing = [name for name in wanted if not found[name]]
    if missing:
        raise UserError(
            f"{archive} has no {', '.join(missing)}, but {', '.join(names[:10])}: {by_hand}"
        )
    for name in wanted:
        if len(found[name]) > 1:
            raise UserError(f"{archive} has {' and '.join(found[name])}: {by_hand}")
    return {name: found[name][0] for name in wanted}
