"""A volume: a lazily read array that knows its axes, voxel size and position."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np

from emseg.volumes.attributes import checked_voxel_size, stored_offset, stored_voxel_size
from emseg.volumes.axes import Arrangement, arrange
from emseg.volumes.formats import check_array, open_source
from emseg.volumes.location import parse_location
from emseg.volumes.source import Selected, StoredArray, arranged


@dataclass(frozen=True, eq=False)
class Volume:
    """A region of a stored array with three spatial axes and, perhaps, channels.

    Pickles without its file handle and reopens it in worker processes, forked or spawned.

    Attributes:
        location: the file and key, for messages and to open it again.
        shape, axes: spatial, in stored order ("zyx" or "xyz").
        channels: their number, None without; they come first, wherever they are stored.
        dtype: of the voxels, in native byte order.
        voxel_size: nm in stored-axis order, None if unknown.
        offset: of the first voxel, nm in stored-axis order, None if unknown.
        attributes: what is stored with the data set.
        stored_size: the voxel size in the file, which the config may have replaced.
        names_axes: whether the file names a spatial axis.
    """

    location: str
    shape: tuple[int, ...]
    axes: str
    voxel_size: tuple[float, ...] | None
    offset: tuple[float, ...] | None
    attributes: dict[str, Any] = field(repr=False)
    # Channels first, if it has any.
    _source: StoredArray = field(repr=False)
    _first: tuple[int, ...] = field(default=(0, 0, 0), repr=False)
    stored_size: tuple[float, ...] | None = field(default=None, repr=False)
    names_axes: bool = field(default=False, repr=False)

    @property
    def dtype(self) -> np.dtype:
        return self._source.dtype.newbyteorder("=")

    @property
    def channels(self) -> int | None:
        return self._source.shape[0] if len(self._source.shape) > 3 else None

    def read(
        self, start: Sequence[int], stop: Sequence[int], *, channels: Sequence[int] | None = None
    ) -> np.ndarray:
        """A region (Z, Y, X) or (C, Z, Y, X) as a new array in native byte order.

        Args:
            start, stop: voxels inside the volume, in stored-axis order.
            channels: only these are read, in the order given. None: all.

        Raises:
            ValueError: the region is empty or reaches outside the volume (see read_padded), or a
                channel is not there.
            UserError: the file is damaged.
        """
        if channels is not None:
            return self.select(channels).read(start, stop)
        block = self._source[self._region(start, stop)]
        # A block of an array in memory is a view of it; those from files are new.
        view = isinstance(self._source, np.ndarray)
        return np.array(block, dtype=self.dtype, order="C", copy=True if view else None)

    def view(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """The voxels that `read` returns; of an array in memory a read-only view, not a copy.

        The view has the array's byte order.
        """
        if not isinstance(self._source, np.ndarray):
            return self.read(start, stop)
        block = self._source[self._region(start, stop)].view()
        block.flags.writeable = False
        return block

    def crop(self, start: Sequence[int], stop: Sequence[int]) -> "Volume":
        """A lazy view of a region.

        Its offset is moved by start x voxel size, from 0 without one; None without a voxel size.

        Raises:
            ValueError: the region is empty or reaches outside the volume.
        """
        low, high = self._checked(start, stop)
        offset = None
        if self.voxel_size is not None:
            origin = self.offset or (0.0, 0.0, 0.0)
            steps = zip(origin, low, self.voxel_size, strict=True)
            offset = tuple(o + a * size for o, a, size in steps)
        return replace(
            self,
            shape=tuple(b - a for a, b in zip(low, high, strict=True)),
            offset=offset,
            _first=tuple(f + a for f, a in zip(self._first, low, strict=True)),
        )

    def __getitem__(self, key: EllipsisType | tuple[slice, ...]) -> np.ndarray:
        """A region as an array, as from `read`.

        Args:
            key: slices of the spatial axes, which work as in numpy, or `...` for the whole.

        Raises:
            ValueError: a step or a single index; an empty region.
        """
        parts = (slice(None),) * 3 if key is ... else key
        if not isinstance(parts, tuple) or not all(isinstance(part, slice) for part in parts):
            raise ValueError(f"index a volume by three slices or '...', not by {key!r}")
        bounds = [part.indices(size) for part, size in zip(parts, self.shape, strict=True)]
        if any(step != 1 for _, _, step in bounds):
            raise ValueError(f"a volume is not read in steps: {key!r}")
        return self.read([start for start, _, _ in bounds], [stop for _, stop, _ in bounds])

    def select(self, channels: Sequence[int]) -> "Volume":
        """A lazy view of some channels, in the order given.

        Raises:
            ValueError: one of them is not there.
        """
        count = self.channels or 0
        if not all(0 <= channel < count for channel in channels):
            raise ValueError(f"channels {list(channels)} are not in {self.location} ({count})")
        return replace(self, _source=Selected(self._source, tuple(channels)))

    def in_order(self, axes: str) -> "Volume":
        """A lazy view with the axes in another order ("zyx" of an "xyz")."""
        order = [self.axes.index(axis) for axis in axes]
        lead = len(self._source.shape) - 3

        def moved(values: Sequence[Any] | None) -> Any:
            return None if values is None else tuple(values[axis] for axis in order)

        return replace(
            self,
            shape=moved(self.shape),
            axes=axes,
            voxel_size=moved(self.voxel_size),
            offset=moved(self.offset),
            stored_size=moved(self.stored_size),
            _source=arranged(self._source, [*range(lead), *(lead + axis for axis in order)]),
            _first=moved(self._first),
        )

    def without_lone_channel(self) -> "Volume":
        """The same volume, without its channel axis if that has the length 1."""
        if self.channels != 1:
            return self
        return replace(self, _source=arranged(self._source, (1, 2, 3)))

    def _region(self, start: Sequence[int], stop: Sequence[int]) -> tuple[slice, ...]:
        low, high = self._checked(start, stop)
        channels = [] if self.channels is None else [slice(0, self.channels)]
        bounds = zip(self._first, low, high, strict=True)
        return (*channels, *(slice(first + a, first + b) for first, a, b in bounds))

    def _checked(
        self, start: Sequence[int], stop: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        low = tuple(operator.index(value) for value in start)
        high = tuple(operator.index(value) for value in stop)
        if len(low) != 3 or len(high) != 3:
            raise ValueError(f"a region has three axes, not {low} to {high}")
        if not all(0 <= a < b <= n for a, b, n in zip(low, high, self.shape, strict=True)):
            raise ValueError(f"region {low} to {high} is not inside {self.location} {self.shape}")
        return low, high


def open_volume(
    location: str | Path, *, axes: str | None = None, voxel_size: Sequence[float] | None = None
) -> Volume:
    """The volume at a location, none of its voxels read.

    Args:
        location: `a.h5`, `a.h5:key` or `a.h5/key` (also .hdf5, .hdf), `a.zarr`, `a.zarr/key` or
            `a.zarr:key` (zarr 2 and 3, OME-Zarr 0.4 and 0.5), `a.tif`. Without a key, a single data
            set is used, else `main`; a folder of section images, or `folder:pattern`, is a stack of
            them, and one image is a volume of one section.
        axes: names the stored axes ("zyx", "xyz", "czyx", "tczyx" ...) if the file does not; axes
            of length 1 that are not spatial are left out.
        voxel_size: nm, in stored-axis order; overrides the file's. The offset stays the same in
            voxels then.

    Raises:
        UserError: anything is missing, ambiguous, empty or broken, or `axes` contradict the file.
    """
    parsed = parse_location(location)
    source = open_source(parsed)
    found = str(replace(parsed, key=source.key))
    where, attributes = f"'{found}'", source.attributes
    arrangement = arrange(source.shape, axes, stated=source.stated_axes(), where=where)
    stored = stored_voxel_size(attributes, where=where, order=arrangement.order)
    offset = stored_offset(attributes, where=where, order=arrangement.order)
    size = stored if voxel_size is None else checked_voxel_size(voxel_size, where=where)
    if stored and size and offset:
        offset = tuple(o / a * b for o, a, b in zip(offset, stored, size, strict=True))
    volume = _seen(source, arrangement, where=found, voxel_size=size)
    return replace(volume, offset=offset, attributes=attributes, stored_size=stored)


def from_array(
    array: np.ndarray, *, axes: str | None = None, voxel_size: Sequence[float] | None = None
) -> Volume:
    """The array, not copied, as a volume without an offset.

    Args:
        array: (Z, Y, X) in any order, perhaps with a channel axis; or one section.
        axes, voxel_size: as for open_volume.

    Raises:
        UserError: the array is empty or not of numbers, or the arguments do not fit it.
    """
    where = "the array"
    check_array(array, where=where)
    size = None if voxel_size is None else checked_voxel_size(voxel_size, where=where)
    return _seen(array, arrange(array.shape, axes, where=where), where=where, voxel_size=size)


def read_attributes(location: str | Path) -> dict[str, Any]:
    """What is stored with a data set, as plain dicts, lists, strings, numbers and None.

    This includes axes, resolution and offset (nm) that only OME or ImageJ metadata hold.

    Raises:
        UserError: as for open_volume.
    """
    return open_source(location).attributes


def _seen(
    source: StoredArray,
    arrangement: Arrangement,
    *,
    where: str,
    voxel_size: tuple[float, ...] | None,
) -> Volume:
    channel = [] if arrangement.channel is None else [arrangement.channel]
    source = arranged(source, [*channel, *arrangement.order])
    return Volume(
        location=where,
        shape=source.shape[-3:],
        axes=arrangement.axes,
        voxel_size=voxel_size,
        offset=None,
        attributes={},
        names_axes=arrangement.stated is not None,
        _source=source,
    )
