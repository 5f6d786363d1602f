"""How an array is to be stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emseg.volumes.attributes import with_place
from emseg.volumes.location import MAIN


@dataclass(frozen=True)
class Layout:
    """A data set to be made; its attributes hold `axes`, and the position in nm if it is known."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    attributes: dict[str, Any]
    dataset: str

    @property
    def facts(self) -> dict[str, Any]:
        """What a hash of the content covers in addition to the voxels."""
        return {"shape": self.shape, "dtype": self.dtype, "attributes": self.attributes}


def make_layout(
    shape: Sequence[int],
    dtype: np.typing.DTypeLike,
    *,
    axes: str,
    voxel_size: Sequence[float] | None,
    offset: Sequence[float] | None = None,
    attributes: Mapping[str, Any] | None = None,
    chunks: Sequence[int] | None = None,
    dataset: str = MAIN,
) -> Layout:
    """The layout of an array to be written.

    Args:
        shape: (Z, Y, X) or (C, Z, Y, X), in the order of `axes`, such as "zyx" or "cxyz".
        voxel_size, offset: nm in the order of the spatial axes, None if unknown.
        attributes: more to be stored; the arguments replace the position that they name.
        chunks: in the order of `axes`; None: `default_chunks`.

    Raises:
        ValueError: the axes do not fit the shape, with channels first.
        TypeError: an attribute is not plain, see `plain`.
        UserError: the voxel size or the offset is not three numbers, or a size is not positive.
    """
    if sorted(axes[-3:]) != list("xyz") or axes[:-3] not in ("", "c") or len(axes) != len(shape):
        raise ValueError(f"axes '{axes}' do not fit an array of shape {tuple(shape)}")
    stored = with_place(attributes or {}, axes=axes, voxel_size=voxel_size, offset=offset)
    shape = tuple(int(size) for size in shape)
    chunks = default_chunks(shape) if chunks is None else tuple(int(size) for size in chunks)
    return Layout(shape, np.dtype(dtype), chunks, stored, dataset)


def default_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Chunks for an array (Z, Y, X) or (C, Z, Y, X): 16 x 128 x 128 voxels of one channel, or less.

    That is 0.25 to 2 MB. Thin along the first spatial axis, since whole rows of chunks are in
    memory before they are written.
    """
    wanted = (1,) * (len(shape) - 3) + (16, 128, 128)
    return tuple(min(size, limit) for size, limit in zip(shape, wanted, strict=True))
