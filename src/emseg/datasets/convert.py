"""Volumes from the files of challenges, and files to hand in to one: the verb convert."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emseg.datasets.converted import open_expected, read_slabs, write_converted
from emseg.datasets.cremi_files import BACKGROUND, CLEFTS, INVALID, RAW
from emseg.datasets.public_em import convert_public
from emseg.datasets.submission import write_submission
from emseg.errors import UserError, unknown_name
from emseg.runs.run_folder import say, working_in
from emseg.volumes import Volume
from emseg.volumes.hdf5_links import open_hdf5
from emseg.volumes.location import parse_location, require_there

CONVERSIONS = ("cremi", "cremi-submission", "public-em")
UNLABELLED = -1


def convert(what: str, source: str, to: str, *, alignment: str | None = None) -> None:
    """Makes volumes from files of challenges, or a file to hand in.

    Args:
        what: `cremi` makes `im_<sample>.h5` and `syn_<sample>.h5`; `cremi-submission` makes the
            file that the challenge takes; `public-em` makes the volumes of dbMiM's pretraining.
        source: an official file of CREMI or a folder of them (`.hdf`); a segmentation; a folder.
        to: the folder of the volumes, or the file to hand in.
        alignment: the record of the re-alignment, for a segmentation of a re-aligned stack.

    Raises:
        UserError: there is no such conversion, or the source is wrong.
    """
    if what not in CONVERSIONS:
        raise unknown_name("conversion", what, CONVERSIONS)
    if what == "cremi-submission":
        write_submission(source, Path(to), None if alignment is None else Path(alignment))
    elif alignment is not None:
        raise UserError("--alignment is for convert cremi-submission, which leads back by it")
    elif what == "public-em":
        convert_public(Path(source), Path(to))
    else:
        _convert_cremi(Path(source), Path(to))


def sample_of(path: Path) -> str:
    """The sample in a file's name: A of sample_A_20160501.hdf, A+ of sample_A+_…"""
    found = re.search(r"(?:^|_)([A-Z]\+?)(?:_|$)", path.stem)
    if found is None:
        raise UserError(
            f"{path}: no sample in the name: it must be like sample_A_20160501.hdf or "
            "sample_A+_20160601.hdf"
        )
    return found[1]


def _convert_cremi(source: Path, to: Path) -> None:
    samples = {name: _open_sample(path) for name, path in _files(source).items()}
    with working_in(to, "emseg convert"):
        for name, (image, clefts) in samples.items():
            write_converted(to / f"im_{name}.h5", image, np.uint8)
            if clefts is not None:
                write_converted(to / f"syn_{name}.h5", clefts, np.int32, _numbering(clefts))


def _files(source: Path) -> dict[str, Path]:
    """The official files by their samples."""
    if not source.is_dir():
        require_there(parse_location(source))
        return {sample_of(source): source}
    files: dict[str, Path] = {}
    for path in sorted(source.glob("*.hdf")):
        other = files.setdefault(name := sample_of(path), path)
        if other != path:
            raise UserError(f"{other} and {path} are both of sample {name}: convert one")
    if not files:
        raise UserError(f"{source} holds no .hdf files (emseg download cremi-official {source})")
    return files


def _open_sample(path: Path) -> tuple[Volume, Volume | None]:
    """The image, cropped to the clefts, and the clefts if the file has them."""
    image = open_expected(f"{path}:{RAW}", np.uint8, what="an official image")
    with open_hdf5(path) as file:
        labelled = CLEFTS in file
    if not labelled:
        return image, None
    clefts = open_expected(f"{path}:{CLEFTS}", np.uint64, what="official clefts")
    if image.voxel_size is None or image.voxel_size != clefts.voxel_size:
        raise UserError(
            f"{clefts.location} has the resolution {clefts.voxel_size}, {image.location} "
            f"{image.voxel_size}: they must have one, the same"
        )
    away = np.subtract(clefts.offset or (0, 0, 0), image.offset or (0, 0, 0)) / image.voxel_size
    start = np.round(away).astype(int)
    stop = start + clefts.shape
    if not np.allclose(away, start, atol=1e-3):
        raise UserError(
            f"{clefts.location} begins {away.tolist()} voxels into {image.location}: they must "
            "be whole"
        )
    if start.min() < 0 or (stop > image.shape).any():
        raise UserError(
            f"{clefts.location} reaches from voxel {start.tolist()} to {stop.tolist()} of "
            f"{image.location}, which has {image.shape}"
        )
    return image.crop(start.tolist(), stop.tolist()), clefts


def _numbering(clefts: Volume) -> Callable[[np.ndarray], np.ndarray]:
    """Our ids: the clefts 1, 2, 3 … in the order of theirs, 0 none, -1 unlabelled."""
    ids = np.zeros(0, np.uint64)
    for _, slab in read_slabs(clefts, f"reading {Path(clefts.location).name}"):
        ids = np.union1d(ids, slab[_is_cleft(slab)])
    say(f"{clefts.location}: {len(ids)} clefts")

    def numbered(slab: np.ndarray) -> np.ndarray:
        labels, inside = np.zeros(slab.shape, np.int32), _is_cleft(slab)
        labels[inside] = np.searchsorted(ids, slab[inside]) + 1
        labels[slab == INVALID] = UNLABELLED
        return labels

    return numbered


def _is_cleft(slab: np.ndarray) -> np.ndarray:
    # CREMI does not use 0; in files cropped by others it means no cleft.
    return (slab != BACKGROUND) & (slab != INVALID) & (slab != 0)
