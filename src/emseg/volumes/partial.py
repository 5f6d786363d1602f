"""An unfinished volume: filled in slabs, resumed after a kill, visible when finished."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.errors import UserError
from emseg.volumes.atomic import discard, publish, replacing, writing
from emseg.volumes.content import CONTENT, row_hash, stamp
from emseg.volumes.layout import make_layout
from emseg.volumes.ledger import Ledger, Row
from emseg.volumes.location import MAIN, output_format


class PartialVolume:
    """`<path>.partial`, a zarr folder with a ledger next to it, which becomes `path` at the end.

    Slabs along the first spatial axis are of any thickness and follow each other within a stretch
    of `missing()`; whole rows of chunks are written, then their hashes go into the ledger, so that
    a process killed at any moment loses no row that it finished. An older partial is continued, as
    far as its rows are undamaged, if its axes, dtype, shape, chunks and the attributes
    `fingerprint` and `contents` are the same; else it is deleted. Several processes may fill
    different stretches; `joined` is then true for all but the one that began it.

    Args:
        path: ends in `.h5` or `.zarr`.
        shape, axes, voxel_size, offset: of the whole volume, as for `write_volume`.
        dtype: of all slabs.
        chunks: as `shape`; the slabs are collected to rows of the thickness of a chunk.
        attributes: as for `write_volume`, with a `fingerprint`.
        joined: goes on with what another process has open, without reading its rows.

    Attributes:
        depth: voxels along the first spatial axis.
        ledger: its finished rows.

    Raises:
        UserError: the folder cannot be written to, or there is nothing to join.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: Sequence[int],
        dtype: np.typing.DTypeLike,
        chunks: Sequence[int],
        axes: str,
        voxel_size: Sequence[float] | None,
        attributes: Mapping[str, Any],
        offset: Sequence[float] | None = None,
        joined: bool = False,
    ) -> None:
        from emseg.volumes.ome_zarr import create_zarr

        self.path = Path(path)
        self._format = output_format(self.path)
        self._folder = self.path.with_name(f"{self.path.name}.partial")
        self._about = self.path.with_name(f"{self.path.name}.partial.json")
        self.ledger = Ledger(self.path.with_name(f"{self.path.name}.partial.rows"))
        self._layout = make_layout(
            shape,
            dtype,
            chunks=chunks,
            axes=axes,
            voxel_size=voxel_size,
            offset=offset,
            attributes=attributes,
        )
        self._identity = {
            "fingerprint": attributes["fingerprint"],
            "contents": attributes.get("contents"),
            "axes": axes,
            "dtype": self._layout.dtype.str,
            "shape": list(self._layout.shape),
            "chunks": list(self._layout.chunks),
        }
        self.depth = self._layout.shape[-3]
        with writing(self.path):
            array = self._taken_up(read=not joined)
            if array is None and joined:
                raise UserError(f"'{self._folder}' is gone, or was begun anew by another run")
            if array is None:
                self._start_anew()
                array = create_zarr(self._folder, self._layout)
                self._about.write_text(json.dumps({"of": self._identity}))
        self._array = array
        self._next = self.done()
        self._row: np.ndarray | None = None

    def done(self) -> int:
        """The number of voxels along the first spatial axis, from the first on, without a gap."""
        missing = self.missing()
        return missing[0][0] if missing else self.depth

    @property
    def thickness(self) -> int:
        """The voxels along the first spatial axis of a row of chunks."""
        return self._layout.chunks[-3]

    @property
    def plane_voxels(self) -> int:
        """The voxels of a plane across the first spatial axis."""
        return self._layout.shape[-2] * self._layout.shape[-1]

    def missing(self, start: int = 0, stop: int | None = None) -> list[tuple[int, int]]:
        """Stretches [first, stop) of voxels along the first spatial axis that are to be written.

        Only those from `start` (a multiple of `thickness`) to `stop`.
        """
        step, stop = self.thickness, self.depth if stop is None else stop
        stretches: list[tuple[int, int]] = []
        for first in range(start, stop, step):
            if first // step in self.ledger.rows:
                continue
            last = min(first + step, self.depth)
            if stretches and stretches[-1][1] == first:
                first = stretches.pop()[0]
            stretches.append((first, last))
        return stretches

    def write(self, start: int, array: np.ndarray) -> None:
        """Takes the next slab; rows of chunks that it completes are then on the disk.

        Args:
            start: its first voxel along axis -3: where the last slab ended or, if that completed a
                row, the first voxel of any row.
            array: (C?, n, Y, X) of the volume's dtype.

        Raises:
            ValueError: it does not follow the last one, or does not fit the volume.
            UserError: the disk refuses it.
        """
        between_rows = self._next % self.thickness == 0 or self._next == self.depth
        if between_rows and start % self.thickness == 0:
            self._next = start
        self._check_slab(start, array)
        taken = 0
        while taken < array.shape[-3]:
            row = self._buffer()
            filled = self._next % self.thickness
            count = min(array.shape[-3] - taken, row.shape[-3] - filled)
            row[..., filled : filled + count, :, :] = array[..., taken : taken + count, :, :]
            taken += count
            self._next += count
            if filled + count == row.shape[-3]:
                self._store((self._next - 1) // self.thickness, row)

    def finish(self, *, old_to: Path | None = None) -> Path:
        """The path of the complete volume, which now has a hash of its content.

        Args:
            old_to: where an older one is moved. None: it is deleted.

        Raises:
            ValueError: slabs are missing.
            UserError: written data are lost, or the disk refuses.
        """
        if self.missing():
            raise ValueError(f"'{self.path}' lacks the voxels {self.missing()}")
        layout = self._layout
        layout.attributes[CONTENT] = stamp(self._digests(), self.thickness, **layout.facts)
        if self._format == "zarr":
            if self._array.nchunks_initialized != self._array.nchunks:
                raise self._damaged()
            with writing(self.path):
                self._array.attrs[CONTENT] = layout.attributes[CONTENT]
                publish(self._folder, self.path, old_to=old_to)
        else:
            from emseg.volumes.hdf5_writing import write_hdf5

            with replacing(self.path, old_to=old_to) as temporary:
                write_hdf5(temporary, self._slabs(), layout)
        self.discard()
        return self.path

    def discard(self) -> None:
        """Removes what was written; a finished prediction or segmentation stays."""
        with writing(self.path):
            discard_unfinished(self.path)

    def _digests(self) -> list[str]:
        return [row.digest for _, row in sorted(self.ledger.rows.items())]

    def _slabs(self) -> Iterator[tuple[int, np.ndarray]]:
        for number, written in enumerate(self._digests()):
            row = self._row_of(self._array, number)
            if row is None or row_hash(row) != written:
                raise self._damaged()
            yield number * self.thickness, row

    def _row_of(self, array: Any, number: int) -> np.ndarray | None:
        """A row of chunks as it is on the disk, None if it cannot be read."""
        step = self.thickness
        first, last = number * step, min((number + 1) * step, self.depth)
        try:
            return np.asarray(array[..., first:last, :, :])
        except (OSError, RuntimeError, ValueError):  # a damaged chunk
            return None

    def _damaged(self) -> UserError:
        return UserError(
            f"'{self._folder}' does not hold any more what was written to it: the same command "
            "makes the missing parts anew"
        )

    def _buffer(self) -> np.ndarray:
        *channels, _, height, width = self._layout.shape
        thickness = min(self.thickness, self.depth - self._next // self.thickness * self.thickness)
        if self._row is None or self._row.shape[-3] != thickness:
            self._row = np.empty((*channels, thickness, height, width), self._layout.dtype)
        return self._row

    def _check_slab(self, start: int, array: np.ndarray) -> None:
        *channels, depth, height, width = self._layout.shape
        fits = array.shape == (*channels, array.shape[-3], height, width)
        if start != self._next or start + array.shape[-3] > depth or not fits:
            raise ValueError(
                f"a slab of shape {array.shape} at {start} does not follow {self._next} "
                f"in a volume of shape {self._layout.shape}"
            )
        if array.dtype != self._layout.dtype:
            raise ValueError(f"a slab of {array.dtype} does not fit {self._layout.dtype}")

    def _store(self, number: int, row: np.ndarray) -> None:
        start = number * self.thickness
        with writing(self.path):
            self._array[..., start : start + row.shape[-3], :, :] = row
            self.ledger.add(number, row_hash(row))

    def _taken_up(self, *, read: bool) -> Any:
        """The array that an earlier run began, its undamaged rows counted as done; or None.

        With `read` all rows are compared with their hashes.
        """
        from emseg.volumes.ome_zarr import open_partial

        if not self._is_recorded():
            return None
        try:
            array = open_partial(self._folder, self._layout.dataset)
        # Metadata may be broken in any way; then the volume is begun again.
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if array.shape != self._layout.shape or array.dtype != self._layout.dtype:
            return None
        if read:
            damaged = [row.number for row in self.ledger.rows.values() if self._lacks(array, row)]
            if damaged:
                self.ledger.forget(damaged)
        return array

    def _lacks(self, array: Any, written: Row) -> bool:
        """Whether the voxels of a recorded row are not those on the disk."""
        if written.number * self.thickness >= self.depth:
            return True
        row = self._row_of(array, written.number)
        return row is None or row_hash(row) != written.digest

    def _is_recorded(self) -> bool:
        """Whether what an earlier run began is this volume."""
        if not self._about.is_file() or not self._folder.is_dir():
            return False
        try:
            about = json.loads(self._about.read_text())
        # Edited, or cut short by a power failure.
        except (ValueError, RecursionError):
            return False
        return isinstance(about, dict) and about == {"of": self._identity}

    def _start_anew(self) -> None:
        discard_unfinished(self.path)
        self.ledger = Ledger(self.ledger.folder)
        self.path.parent.mkdir(parents=True, exist_ok=True)


def discard_unfinished(path: Path) -> None:
    """Removes what there is of the unfinished volume that was to become `path`."""
    # The description first: without it, the rest is ignored.
    for end in (".partial.json", ".partial.rows", ".partial"):
        discard(path.with_name(path.name + end))


def unfinished_attributes(path: Path) -> dict[str, Any] | None:
    """The attributes of the unfinished volume that is to become `path`, None without one."""
    described = path.with_name(f"{path.name}.partial") / MAIN / "zarr.json"
    try:
        attributes = json.loads(described.read_text())["attributes"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        return None  # Missing, or cut short: such a partial is begun again.
    return attributes if isinstance(attributes, dict) else None
