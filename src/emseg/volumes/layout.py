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
    """The layout; ValueError unless the axes fit the shape, with channels first."""
    if sorted(axes[-3:]) != list("xyz") or axes[:-3] not in ("", "c") or len(axes) != len(shape):
        raise ValueError(f"axes '{axes}' do not fit an array of shape {tuple(shape)}")
    stored = with_place(attributes or {}, axes=axes, voxel_size=voxel_size, offset=offset)
    shape = tuple(int(size) for size in shape)
    chunks = default_chunks(shape) if chunks is None else tuple(int(size) for size in chunks)
    return Layout(shape, np.dtype(dtype), chunks, stored, dataset)


def default_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Chunks for a stored array: 16 x 128 x 128 voxels of one channel, 0.25 to 2 MB.

    Thin along the first spatial axis, since whole rows of chunks are in memory before they are
    written.
    """
    wanted = (1,) * (len(shape) - 3) + (16, 128, 128)
    return tuple(min(size, limit) for size, limit in zip(shape, wanted, strict=True))
