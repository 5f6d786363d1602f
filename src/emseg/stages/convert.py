"""Volumes from the files of a challenge, and files to hand in to it: the verb convert."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.errors import UserError, unknown_name
from emseg.progress import track
from emseg.stages.runs import say
from emseg.stages.submission import THICKNESS, write_submission
from emseg.volumes import Volume, check_writable, identity, open_volume, read_attributes
from emseg.volumes.atomic import replacing
from emseg.volumes.cremi import BACKGROUND, CLEFTS, INVALID, RAW, sample_of
from emseg.volumes.hdf5 import open_hdf5, write_hdf5
from emseg.volumes.layout import make_layout
from emseg.volumes.location import parse_location, require_there

CONVERSIONS = ("cremi", "cremi-submission")
# Raised when the same source makes another file.
VERSION = 1
UNLABELLED = -1

Change = Callable[[np.ndarray], np.ndarray]


def convert(what: str, source: str, to: str, *, alignment: str | None = None) -> None:
    """Nothing; `cremi` has made `im_<sample>.h5` and `syn_<sample>.h5` in the folder `to`.

    The source is an official file, or a folder of them (`.hdf`). `cremi-submission` makes of a
    segmentation the file `to`, as the challenge takes it, through the record of the re-alignment
    where there is one. UserError for any other, and for files that are none of these.
    """
    if what not in CONVERSIONS:
        raise unknown_name("conversion", what, CONVERSIONS)
    if what == "cremi-submission":
        record = None if alignment is None else Path(alignment)
        write_submission(source, Path(to), record)
        return
    if alignment is not None:
        raise UserError("--alignment is for convert cremi-submission, which leads back by it")
    _convert_samples(Path(source), Path(to))


@dataclass(frozen=True)
class _Sample:
    """What is in an official file: the image, cut to the clefts, and these where it has them."""

    name: str
    image: Volume
    clefts: Volume | None


def _convert_samples(source: Path, to: Path) -> None:
    samples = [_open_sample(name, path) for name, path in _files(source).items()]
    check_writable(to)
    for sample in samples:
        _write(to / f"im_{sample.name}.h5", sample.image, np.uint8, lambda image: image)
        if sample.clefts is not None:
            _write(to / f"syn_{sample.name}.h5", sample.clefts, np.int32, _numbering(sample.clefts))


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


def _write(path: Path, volume: Volume, dtype: type, change: Change) -> None:
    """The changed volume, unless it is there; what was not made by this is not replaced."""
    origin = {"version": VERSION, **identity(volume.location)}
    if path.exists():
        made_of = read_attributes(path).get("converted_from")
        if made_of is None:
            raise UserError(
                f"{path} is there, and was not made by convert: move it away, or take another "
                "folder"
            )
        if made_of == origin:
            say(f"{path} is up to date")
            return
    layout = make_layout(
        volume.shape,
        dtype,
        axes=volume.axes,
        voxel_size=volume.voxel_size,
        offset=volume.offset,
        attributes={"converted_from": origin, "emseg": __version__},
    )
    slabs = ((start, change(slab)) for start, slab in _slabs(volume, f"writing {path.name}"))
    with replacing(path) as partial:
        write_hdf5(partial, slabs, layout)
    say(f"{path}: written")


def _numbering(clefts: Volume) -> Change:
    """Ids as the house has them: the clefts 1, 2, 3 … in order of theirs, 0 none, -1 unlabelled."""
    ids = np.zeros(0, np.uint64)
    for _, slab in _slabs(clefts, f"reading {Path(clefts.location).name}"):
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


def _slabs(volume: Volume, label: str) -> Iterator[tuple[int, Any]]:
    depth, *plane = volume.shape
    starts = range(0, depth, THICKNESS)
    for start in track(starts, total=len(starts), label=label, unit="slabs"):
        stop = min(start + THICKNESS, depth)
        yield start, volume.read((start, 0, 0), (stop, *plane))
