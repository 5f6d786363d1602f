"""Whole arrays written as volumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.volumes.atomic import replacing
from emseg.volumes.cells import Cells
from emseg.volumes.content import CONTENT, cell_hash, stamp
from emseg.volumes.layout import make_layout
from emseg.volumes.location import MAIN, output_format


def write_volume(
    path: str | Path,
    array: np.ndarray,
    *,
    axes: str,
    voxel_size: Sequence[float] | None = None,
    attributes: Mapping[str, Any] | None = None,
    offset: Sequence[float] | None = None,
    dataset: str = MAIN,
    old_to: Path | None = None,
) -> None:
    """Writes an array to a `.h5` or `.zarr` (v3, OME-Zarr 0.5) in one step.

    Args:
        path: an older file is replaced only when the new one is complete.
        array: (Z, Y, X) or (C, Z, Y, X), in the order of `axes`.
        axes: the stored axes, "c" first if it has channels.
        voxel_size, offset: nm, in the order of the spatial axes; None if unknown.
        attributes: strings, numbers, None, lists and dicts; with a `fingerprint` among them the
            volume gets a hash of its `content`.
        dataset: where the array is stored, in both formats.
        old_to: where an older file is moved. None: it is deleted.

    Raises:
        UserError: another suffix, or the folder cannot be written to.
        ValueError: the axes do not fit the array.
    """
    path, attributes = Path(path), attributes or {}
    kind = output_format(path)
    layout = make_layout(
        array.shape,
        array.dtype,
        axes=axes,
        voxel_size=voxel_size,
        offset=offset,
        attributes=attributes,
        dataset=dataset,
    )
    if "fingerprint" in attributes:
        cells = Cells.of(layout.shape, layout.chunks)
        hashes = [cell_hash(array[(..., *box)]) for _, box in cells]
        layout.attributes[CONTENT] = stamp(hashes, cells, **layout.facts)
    if kind == "hdf5":
        from emseg.volumes.hdf5_writing import write_hdf5

        with replacing(path, old_to=old_to) as temporary:
            write_hdf5(temporary, [(0, array)], layout)
    else:
        from emseg.volumes.ome_zarr import create_zarr

        with replacing(path, old_to=old_to) as temporary:
            create_zarr(temporary, layout)[...] = array
