"""Volumes that are refused unless they are as the data set describes them."""

from pathlib import Path

import numpy as np

from emseg.errors import UserError
from emseg.volumes import Volume, open_volume


def open_expected(
    location: str | Path,
    dtype: type[np.integer],
    *,
    what: str,
    shape: tuple[int, ...] | None = None,
    voxel_size: tuple[float, ...] | None = None,
) -> Volume:
    """The volume (Z, Y, X) at a location.

    Args:
        location: a file, with a key where it has several data sets.
        dtype: its type; `np.integer` for any of whole numbers.
        what: what it should be, for the message.
        shape: its shape, None for any.
        voxel_size: in nm, if the file does not say it.

    Raises:
        UserError: there is no volume, or it has another type, another shape or channels.
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
