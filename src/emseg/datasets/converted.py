"""Volumes that are as they should be, and files made from their voxels, slab by slab."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.errors import UserError
from emseg.progress import track
from emseg.runs.run_folder import say
from emseg.volumes import Volume, identity, open_volume
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


def open_expected(
    location: str | Path,
    dtype: type[np.integer],
    *,
    what: str,
    shape: tuple[int, ...] | None = None,
    voxel_size: tuple[float, ...] | None = None,
) -> Volume:
    """The volume (Z, Y, X) at a location; UserError, with `what` it should be, for another one.

    `np.integer` is any whole number. `voxel_size` (nm) is for files that do not say theirs.
    """
    volume = open_volume(location, voxel_size=voxel_size)
    fine = np.issubdtype(volume.dtype, dtype) and shape in (None, volume.shape)
    if not fine or volume.channels is not None:
        channels = f" with {volume.channels} channels" if volume.channels else ""
        raise UserError(
            f"{volume.location}: {volume.shape} of {volume.dtype}{channels} is not {what}, which "
            f"is {shape or 'three axes'} of {dtype.__name__}: move it away (synthetic volumes "
            "have the same names), or see what was fetched"
        )
    return volume


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
    """Whether the verb made the file of this source; UserError if something else made it."""
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
    """Writes a volume as the data set `main`, with its position, unless the file is current.

    `change` makes the stored slab, of type `dtype`, from that of the volume, if they differ.
    UserError if an existing file was not made by this.
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
