"""Whole arrays written as volumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.volumes.atomic import replacing
from emseg.volumes.attributes import with_place
from emseg.volumes.location import MAIN, output_format


def write_volume(
    path: str | Path,
    array: np.ndarray,
    *,
    axes: str,
    voxel_size: Sequence[float] | None,
    attributes: Mapping[str, Any],
    offset: Sequence[float] | None = None,
    dataset: str = MAIN,
) -> None:
    """Writes (Z, Y, X) or (C, Z, Y, X) to a `.h5` or `.zarr` (v3, OME-Zarr 0.5) at one stroke.

    The array lies at `dataset` in both formats. `axes` are its stored axes, "c" first if it has
    channels; `voxel_size` and `offset` are in nm and that order. The file replaces an older one
    only when whole. Attributes are strings, numbers, None, lists and dicts. UserError when the
    folder refuses.
    """
    path = Path(path)
    check_layout(array.shape, axes)
    layout = {
        "dataset": dataset,
        "shape": array.shape,
        "dtype": array.dtype,
        "chunks": default_chunks(array.shape),
        "attributes": with_place(attributes, axes=axes, voxel_size=voxel_size, offset=offset),
    }
    if output_format(path) == "hdf5":
        from emseg.volumes.hdf5 import write_hdf5

        with replacing(path) as temporary:
            write_hdf5(temporary, [(0, array)], **layout)
    else:
        from emseg.volumes.ome_zarr import create_zarr

        with replacing(path) as temporary:
            create_zarr(temporary, **layout)[...] = array


def default_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Chunks for a stored array: 16 x 128 x 128 voxels of one channel.

    Thin along the first spatial axis, since whole rows of chunks are held in memory on the way
    to the disk; 0.25 to 2 MB, which HDF5 caches and a file system stores well.
    """
    wanted = (1,) * (len(shape) - 3) + (16, 128, 128)
    return tuple(min(size, limit) for size, limit in zip(shape, wanted, strict=True))


def check_layout(shape: Sequence[int], axes: str) -> None:
    """Nothing, or ValueError unless the axes fit the shape, with channels first."""
    if sorted(axes[-3:]) != list("xyz") or axes[:-3] not in ("", "c") or len(axes) != len(shape):
        raise ValueError(f"axes '{axes}' do not fit an array of shape {tuple(shape)}")
