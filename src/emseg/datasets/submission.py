"""A segmentation of clefts in the format of the CREMI challenge."""

from collections.abc import Iterator
from pathlib import Path

import cc3d
import numpy as np

from emseg.datasets.alignment import Alignment, read_alignment, restore
from emseg.datasets.converted import slabs
from emseg.datasets.cremi_files import (
    BACKGROUND,
    CLEFTS,
    FILE_FORMAT,
    INVALID,
    RAW,
    RESOLUTION,
)
from emseg.errors import UserError
from emseg.runs.lock import locked
from emseg.runs.run_folder import say
from emseg.volumes import Volume, check_writable, open_volume
from emseg.volumes.atomic import replacing
from emseg.volumes.hdf5_links import open_hdf5
from emseg.volumes.hdf5_writing import writable_hdf5, write_hdf5
from emseg.volumes.layout import make_layout
from emseg.volumes.location import output_format

# Every sample that is scored.
SAMPLE_SHAPE = (125, 1250, 1250)


def write_submission(segmentation: str, to: Path, record: Path | None) -> None:
    """Writes the segmentation's clefts as `volumes/labels/clefts`, whole or not at all.

    Segments are clefts, and the pieces of a mask (joined by faces, edges or corners, in the
    segmentation's own stack). `record` is that of the re-alignment, by which clefts go back to the
    original. UserError for what is no segmentation of the challenge, or a record of other sections.
    """
    volume = _open(segmentation)
    _check_target(to)
    alignment = None if record is None else read_alignment(record)
    if alignment is not None:
        _check_whole(volume, alignment, record)
    shape = volume.shape if alignment is None else alignment.shape
    layout = make_layout(
        shape,
        np.uint64,
        axes="zyx",
        voxel_size=RESOLUTION,
        offset=(volume.offset if alignment is None else None) or (0.0, 0.0, 0.0),
        dataset=CLEFTS,
    )
    with locked(to, "emseg convert", report=say):
        clefts, count = _clefts(volume)
        with replacing(to) as partial:
            write_hdf5(partial, _slabs(clefts, shape[0], alignment, to.name), layout)
            with writable_hdf5(partial) as file:
                file.attrs["file_format"] = FILE_FORMAT
        say(f"{to}: {count} clefts in {' x '.join(map(str, shape))} voxels")
        if tuple(shape) != SAMPLE_SHAPE:
            say(f"the challenge's samples have {' x '.join(map(str, SAMPLE_SHAPE))}")


def _open(segmentation: str) -> Volume:
    volume = open_volume(segmentation)
    where = volume.location
    raw = volume.dtype.kind == "f" or volume.channels is not None
    if raw or volume.attributes.get("kind") == "prediction":
        raise UserError(
            f"{where} is a prediction, not a segmentation: decode it first (emseg --config … "
            f"--mode decode --input {segmentation}) and hand in what that writes"
        )
    if volume.axes != "zyx":
        raise UserError(f"{where} has the axes {volume.axes}: those of the challenge are zyx")
    if volume.voxel_size is not None and not np.allclose(volume.voxel_size, RESOLUTION):
        raise UserError(
            f"{where} has a resolution of {volume.voxel_size} nm: that of the challenge is "
            f"{RESOLUTION}"
        )
    return volume


def _check_target(to: Path) -> None:
    if output_format(to) != "hdf5":
        raise UserError(f"cannot write '{to}': what is handed in ends in .hdf, .h5 or .hdf5")
    if to.exists():
        with open_hdf5(to) as file:
            ours = file.attrs.get("file_format") and [*file] == ["volumes"] and RAW not in file
        if not ours:
            raise UserError(f"{to} is there, and was not made by convert: take another name")
    check_writable(to.parent)


def _check_whole(volume: Volume, alignment: Alignment, record: Path | None) -> None:
    if len(alignment.sections) != volume.shape[0]:
        raise UserError(
            f"the alignment {record} has {len(alignment.sections)} sections, {volume.location} "
            f"has {volume.shape[0]}"
        )
    if any(volume.offset or ()):
        raise UserError(
            f"{volume.location} begins at {list(volume.offset or ())} nm: a record leads whole "
            "re-aligned volumes back, no parts of one"
        )


def _clefts(volume: Volume) -> tuple[np.ndarray, int]:
    """The ids of the clefts, 0 where there is none, and their number."""
    labels = volume[...]
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= INVALID:
        raise UserError(
            f"{volume.location} holds the id {low if low < 0 else high}: a segmentation has ids "
            f"below {INVALID}, and 0 where there is nothing"
        )
    found = np.count_nonzero(labels)
    if 2 * found > labels.size:
        say(
            f"warning: {volume.location} is more than half clefts ({found} of {labels.size} "
            "voxels): is it a segmentation, with 0 for background?"
        )
    ids = np.unique(labels[labels > 0])
    if len(ids) > 1:
        return labels, len(ids)
    return cc3d.connected_components(labels.astype(bool), connectivity=26, return_N=True)


def _slabs(
    clefts: np.ndarray, depth: int, alignment: Alignment | None, name: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Slabs with the ids of the challenge."""
    for start, stop in slabs(depth, f"writing {name}"):
        part = restore(clefts, alignment, start, stop) if alignment else clefts[start:stop]
        yield start, np.where(part == 0, np.uint64(BACKGROUND), part.astype(np.uint64))
