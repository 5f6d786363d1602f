"""Whole arrays written as volumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.volumes.atomic import replacing
from emseg.volumes.content import CONTENT, row_hash, stamp
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
    """Writes (Z, Y, X) or (C, Z, Y, X) to a `.h5` or `.zarr` (v3, OME-Zarr 0.5) in one step.

    The array is stored at `dataset` in both formats. `axes` are its stored axes, "c" first if it
    has channels; `voxel_size` and `offset` are in nm and that order. The file replaces an older one
    only when complete; the older one is moved to `old_to` if that is given. Attributes are strings,
    numbers, None, lists and dicts; with a `fingerprint` among them the volume gets a hash of its
    `content`. UserError if the folder cannot be written to.
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
        step, depth = layout.chunks[-3], array.shape[-3]
        slabs = (array[..., at : at + step, :, :] for at in range(0, depth, step))
        layout.attributes[CONTENT] = stamp([row_hash(slab) for slab in slabs], step, **layout.facts)
    if kind == "hdf5":
        from emseg.volumes.hdf5_writing import write_hdf5

        with replacing(path, old_to=old_to) as temporary:
            write_hdf5(temporary, [(0, array)], layout)
    else:
        from emseg.volumes.ome_zarr import create_zarr

        with replacing(path, old_to=old_to) as temporary:
            create_zarr(temporary, layout)[...] = array
