"""Files made from the voxels of others, slab by slab, unless they are up to date."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.errors import UserError
from emseg.progress import track
from emseg.runs.run_folder import say
from emseg.volumes import Volume, identity
from emseg.volumes.atomic import replacing
from emseg.volumes.damage import one_line
from emseg.volumes.hdf5_links import open_hdf5
from emseg.volumes.hdf5_writing import write_hdf5
from emseg.volumes.layout import make_layout
from emseg.volumes.location import MAIN

# Increased when the same source gives another file.
VERSION = 1
# Sections per slab: those of a stored chunk.
THICKNESS = 16


def slabs(depth: int, label: str) -> Iterator[tuple[int, int]]:
    """The first section of each slab and one past its last, with progress."""
    starts = range(0, depth, THICKNESS)
    for start in track(starts, total=len(starts), label=label, unit="slabs"):
        yield start, min(start + THICKNESS, depth)


def read_slabs(volume: Volume, label: str) -> Iterator[tuple[int, np.ndarray]]:
    """The first section of each slab of a volume and its voxels (n, Y, X), with progress."""
    for start, stop in slabs(volume.shape[0], label):
        yield start, volume.read((start, 0, 0), (stop, *volume.shape[1:]))


def is_current(path: Path, source: str, *, verb: str) -> bool:
    """Whether a file exists and was made from the source; prints a line if so.

    Args:
        path: the file.
        source: what `convert` or `prepare` would make it from.
        verb: which of them.

    Raises:
        UserError: the existing file was not made by them.
    """
    if not path.exists():
        return False
    with one_line(f"cannot read '{path}'"), open_hdf5(path) as file:
        made_of = file.attrs.get("prepared_from")
        if MAIN in file:
            made_of = file[MAIN].attrs.get("converted_from")
    if made_of is None:
        raise UserError(
            f"{path} is there, and was not made by {verb}: move it away, or take another folder"
        )
    current = str(made_of) == source
    if current:
        say(f"{path} is up to date")
    return current


def write_converted(
    path: Path,
    volume: Volume,
    dtype: type,
    change: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Writes a changed volume as the data set `main`, with its position, unless it is current.

    Args:
        path: the HDF5 file; one from another source is replaced.
        volume: the source.
        dtype: the type of what is stored.
        change: makes the stored slab from that of the volume, None if they are the same.
        attributes: more attributes to be stored.

    Raises:
        UserError: an existing file was not made by this.
    """
    source = {"version": VERSION, **identity(volume.location)}
    if is_current(path, json.dumps(source), verb="convert"):
        return
    layout = make_layout(
        volume.shape,
        dtype,
        axes=volume.axes,
        voxel_size=volume.voxel_size,
        offset=volume.offset,
        attributes={**(attributes or {}), "converted_from": source, "emseg": __version__},
    )
    with replacing(path) as partial:
        parts = read_slabs(volume, f"writing {path.name}")
        write_hdf5(partial, ((at, change(slab) if change else slab) for at, slab in parts), layout)
    say(f"{path}: written")
