"""A volume made of the voxels of another, slab by slab, and not again while it is up to date."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.datasets.submission import THICKNESS
from emseg.errors import UserError
from emseg.progress import say, track
from emseg.volumes import Volume, identity, read_attributes
from emseg.volumes.atomic import replacing
from emseg.volumes.hdf5 import write_hdf5
from emseg.volumes.layout import make_layout

# Raised when the same source makes another file.
VERSION = 1

Change = Callable[[np.ndarray], np.ndarray]


def write_converted(
    path: Path,
    volume: Volume,
    dtype: type,
    change: Change | None = None,
    *,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Nothing; the changed volume is the data set `main` of the file, with its place in nm.

    What was made of the same source is left as it is, of another one it is replaced. UserError
    for a file that was not made by this.
    """
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
        attributes={**(attributes or {}), "converted_from": origin, "emseg": __version__},
    )
    parts = slabs(volume, f"writing {path.name}")
    with replacing(path) as partial:
        changed = ((start, slab if change is None else change(slab)) for start, slab in parts)
        write_hdf5(partial, changed, layout)
    say(f"{path}: written")


def slabs(volume: Volume, label: str) -> Iterator[tuple[int, np.ndarray]]:
    """(start, voxels) of each slab along the first axis, with progress."""
    depth, *plane = volume.shape
    starts = range(0, depth, THICKNESS)
    for start in track(starts, total=len(starts), label=label, unit="slabs"):
        stop = min(start + THICKNESS, depth)
        yield start, volume.read((start, 0, 0), (stop, *plane))
