"""Volumes from the files of challenges, and files to hand in to one: the verb convert."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emseg.datasets.converted import Change, slabs, write_converted
from emseg.datasets.cremi_files import BACKGROUND, CLEFTS, INVALID, RAW, sample_of
from emseg.datasets.public_em import convert_public
from emseg.datasets.submission import write_submission
from emseg.errors import UserError, unknown_name
from emseg.progress import say
from emseg.runs.lock import working_in
from emseg.volumes import Volume, open_volume
from emseg.volumes.hdf5 import open_hdf5
from emseg.volumes.location import parse_location, require_there

CONVERSIONS = ("cremi", "cremi-submission", "public-em")
UNLABELLED = -1


def convert(what: str, source: str, to: str, *, alignment: str | None = None) -> None:
    """Nothing; `cremi` has made `im_<sample>.h5` and `syn_<sample>.h5` in the folder `to`.

    The source is an official file, or a folder of them (`.hdf`). `cremi-submission` makes of a
    segmentation the file `to`, as the challenge takes it, through the record of the re-alignment
    where there is one. `public-em` has made the seven volumes of dbMiM's pretraining, of what lies
    below the folder `source`. UserError for any other, and for files that are none of these.
    """
    if what not in CONVERSIONS:
        raise unknown_name("conversion", what, CONVERSIONS)
    if what == "cremi-submission":
        record = None if alignment is None else Path(alignment)
        write_submission(source, Path(to), record)
        return
    if alignment is not None:
        raise UserError("--alignment is for convert cremi-submission, which leads back by it")
    if what == "public-em":
        convert_public(Path(source), Path(to))
        return
    _convert_samples(Path(source), Path(to))


@dataclass(frozen=True)
class _Sample:
    """What is in an official file: the image, cut to the clefts, and these where it has them."""

    name: str
    image: Volume
    clefts: Volume | None


def _convert_samples(source: Path, to: Path) -> None:
    samples = [_open_sample(name, path) for name, path in _files(source).items()]
    with working_in(to, "emseg convert"):
        for sample in samples:
            write_converted(to / f"im_{sample.name}.h5", sample.image, np.uint8)
            if sample.clefts is not None:
                numbering = _numbering(sample.clefts)
                write_converted(to / f"syn_{sample.name}.h5", sample.clefts, np.int32, numbering)


def _files(source: Path) -> dict[str, Path]:
    """The official files by their samples."""
    if not source.is_dir():
        require_there(parse_location(source))
        return {sample_of(source): source}
    paths = sorted(source.glob("*.hdf"))
    if not paths:
        raise UserError(f"{source} holds no .hdf files (emseg download cremi-official {source})")
    files: dict[str, Path] = {}
    for path in paths:
        name = sample_of(path)
        if name in files:
            raise UserError(f"{files[name]} and {path} are both of sample {name}: convert one")
        files[name] = path
    return files


def _open_sample(name: str, path: Path) -> _Sample:
    image = open_volume(f"{path}:{RAW}")
    if image.dtype != np.uint8 or image.channels is not None:
        raise UserError(
            f"{image.location} holds {image.dtype}: an official image is uint8, z, y, x"
        )
    with open_hdf5(path) as file:
        labelled = CLEFTS in file
    if not labelled:
        return _Sample(name, image, None)
    clefts = open_volume(f"{path}:{CLEFTS}")
    if clefts.dtype != np.uint64 or clefts.channels is not None:
        raise UserError(f"{clefts.location} holds {clefts.dtype}: official clefts are uint64")
    return _Sample(name, _cut(image, clefts), clefts)


def _cut(image: Volume, clefts: Volume) -> Volume:
    """The part of the image that the clefts lie in, by their offsets."""
    if image.voxel_size is None or image.voxel_size != clefts.voxel_size:
        raise UserError(
            f"{clefts.location} has the resolution {clefts.voxel_size}, {image.location} "
            f"{image.voxel_size}: they must have one, the same"
        )
    away = np.subtract(clefts.offset or (0, 0, 0), image.offset or (0, 0, 0)) / image.voxel_size
    start = [round(steps) for steps in away]
    stop = [first + size for first, size in zip(start, clefts.shape, strict=True)]
    if not np.allclose(away, start, atol=1e-3):
        raise UserError(
            f"{clefts.location} begins {away.tolist()} voxels into {image.location}: they must "
            "be whole"
        )
    if min(start) < 0 or (np.array(stop) > image.shape).any():
        raise UserError(
            f"{clefts.location} reaches from voxel {start} to {stop} of "
            f"{image.location}, which has {image.shape}"
        )
    return image.crop(start, stop)


def _numbering(clefts: Volume) -> Change:
    """Ids as the house has them: the clefts 1, 2, 3 … in order of theirs, 0 none, -1 unlabelled."""
    ids = np.zeros(0, np.uint64)
    for _, slab in slabs(clefts, f"reading {Path(clefts.location).name}"):
        ids = np.union1d(ids, slab[_is_cleft(slab)])
    say(f"{clefts.location}: {len(ids)} clefts")

    def numbered(slab: np.ndarray) -> np.ndarray:
        labels, inside = np.zeros(slab.shape, np.int32), _is_cleft(slab)
        labels[inside] = np.searchsorted(ids, slab[inside]) + 1
        labels[slab == INVALID] = UNLABELLED
        return labels

    return numbered


def _is_cleft(slab: np.ndarray) -> np.ndarray:
    # 0 is no id of theirs; those who cut such files for themselves mean nothing by it.
    return (slab != BACKGROUND) & (slab != INVALID) & (slab != 0)
