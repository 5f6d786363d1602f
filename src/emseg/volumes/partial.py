"""An unfinished volume: filled in slabs, resumed after a kill, visible when finished."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.errors import UserError
from emseg.volumes.atomic import discard, publish, replacing, writing
from emseg.volumes.cells import Area, Cells
from emseg.volumes.content import CONTENT, cell_hash, stamp
from emseg.volumes.layout import make_layout
from emseg.volumes.ledger import Ledger
from emseg.volumes.location import MAIN, output_format


class PartialVolume:
    """`<path>.partial`, a zarr folder with a ledger next to it, which becomes `path` at the end.

    Slabs of an area along the first spatial axis are of any thickness and follow each other within
    a stretch of `missing()`; whole cells are written, then their hashes go into the ledger, so that
    a process killed at any moment loses no cell that it finished. An older partial is continued, as
    far as its cells are undamaged, if its axes, dtype, shape, chunks and the attributes
    `fingerprint` and `contents` are the same; else it is deleted. Several processes may fill
    different cells; `joined` is then true for all but the one that began it.

    Args:
        path: ends in `.h5` or `.zarr`.
        shape, axes, voxel_size, offset: of the whole volume, as for `write_volume`.
        dtype: of all slabs.
        chunks: as `shape`; the slabs are collected to rows of cells, which consist of chunks.
        attributes: as for `write_volume`, with a `fingerprint`.
        joined: goes on with what another process has open, without reading its cells.

    Attributes:
        depth: voxels along the first spatial axis.
        cells: how it is divided.
        ledger: its finished cells.

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
        self.ledger = Ledger(self.path.with_name(f"{self.path.name}.partial.cells"))
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
        self.cells = Cells.of(self._layout.shape, self._layout.chunks)
        with writing(self.path):
            array = self._taken_up(read=not joined)
            if array is None and joined:
                raise UserError(f"'{self._folder}' is gone, or was begun anew by another run")
            if array is None:
                self._start_anew()
                array = create_zarr(self._folder, self._layout)
                self._about.write_text(json.dumps({"of": self._identity}))
        self._array = array
        self._next, self._area = self.done(), self.cells.section
        self._row: np.ndarray | None = None

    def done(self) -> int:
        """The number of voxels along the first spatial axis, from the first on, without a gap."""
        missing = self.missing()
        return missing[0][0] if missing else self.depth

    def missing(
        self, start: int = 0, stop: int | None = None, area: Area | None = None
    ) -> list[tuple[int, int]]:
        """Stretches [first, stop) of voxels along the first spatial axis that are to be written.

        Only those from `start` (a multiple of the thickness of cells) to `stop`, in cells of the
        area.
        """
        step, stop = self.cells.size[0], self.depth if stop is None else stop
        area = area or self.cells.section
        stretches: list[tuple[int, int]] = []
        for first in range(start, stop, step):
            cells = self.cells.of_row(first // step, area)
            if all(number in self.ledger.done for number, _ in cells):
                continue
            last = min(first + step, self.depth)
            if stretches and stretches[-1][1] == first:
                first = stretches.pop()[0]
            stretches.append((first, last))
        return stretches

    def write(self, start: int, array: np.ndarray, area: Area | None = None) -> None:
        """Takes the next slab of an area; cells that it completes are then on the disk.

        Args:
            start: its first voxel along axis -3: where the last slab ended or, if that completed a
                row, the first voxel of any row.
            array: (C?, n, y, x) of the volume's dtype.
            area: whole cells, another one only after a row is complete; None: the whole section.

        Raises:
            ValueError: it does not follow the last one, or does not fit the volume.
            UserError: the disk refuses it.
        """
        area, step = area or self.cells.section, self.cells.size[0]
        if start % step == 0 and (self._next % step == 0 or self._next == self.depth):
            self._next, self._area = start, area
        self._check_slab(start, array, area)
        taken = 0
        while taken < array.shape[-3]:
            row = self._buffer()
            filled = self._next % step
            count = min(array.shape[-3] - taken, row.shape[-3] - filled)
            row[..., filled : filled + count, :, :] = array[..., taken : taken + count, :, :]
            taken += count
            self._next += count
            if filled + count == row.shape[-3]:
                self._store((self._next - 1) // step, row)

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
        layout.attributes[CONTENT] = stamp(self._digests(), self.cells, **layout.facts)
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
        return [cell.digest for _, cell in sorted(self.ledger.done.items())]

    def _slabs(self) -> Iterator[tuple[int, np.ndarray]]:
        """The rows, read again: (first voxel along axis -3, voxels)."""
        for number in range(self.cells.rows):
            cells = [*self.cells.of_row(number, self.cells.section)]
            z = cells[0][1][0]
            row = self._read(self._array, (z, slice(None), slice(None)))
            for at, (_, y, x) in cells:
                if row is None or cell_hash(row[..., y, x]) != self.ledger.done[at].digest:
                    raise self._damaged()
            yield z.start, row

    def _read(self, array: Any, box: tuple[slice, ...]) -> np.ndarray | None:
        """The voxels of a box as they are on the disk, None if they cannot be read."""
        try:
            return np.asarray(array[(..., *box)])
        except (OSError, RuntimeError, ValueError):  # a damaged chunk
            return None

    def _damaged(self) -> UserError:
        return UserError(
            f"'{self._folder}' does not hold any more what was written to it: the same command "
            "makes the missing parts anew"
        )

    def _buffer(self) -> np.ndarray:
        step, (ys, xs) = self.cells.size[0], self._area
        thickness = min(step, self.depth - self._next // step * step)
        shape = (*self._layout.shape[:-3], thickness, ys[1] - ys[0], xs[1] - xs[0])
        if self._row is None or self._row.shape != shape:
            self._row = np.empty(shape, self._layout.dtype)
        return self._row

    def _check_slab(self, start: int, array: np.ndarray, area: Area) -> None:
        sides = [stop - first for first, stop in area]
        fits = array.shape == (*self._layout.shape[:-3], array.shape[-3], *sides)
        follows = start == self._next and area == self._area
        if not (fits and follows) or start + array.shape[-3] > self.depth:
            raise ValueError(
                f"a slab of shape {array.shape} at {start} does not follow {self._next} of "
                f"{self._area} in a volume of shape {self._layout.shape}"
            )
        if array.dtype != self._layout.dtype:
            raise ValueError(f"a slab of {array.dtype} does not fit {self._layout.dtype}")

    def _store(self, number: int, row: np.ndarray) -> None:
        (top, _), (left, _) = self._area
        for at, (z, y, x) in self.cells.of_row(number, self._area):
            if at in self.ledger.done:
                continue
            cell = row[..., y.start - top : y.stop - top, x.start - left : x.stop - left]
            with writing(self.path):
                self._array[..., z, y, x] = cell
                self.ledger.add(at, cell_hash(cell))

    def _taken_up(self, *, read: bool) -> Any:
        """The array that an earlier run began, its undamaged cells counted as done; or None.

        With `read` all cells are compared with their hashes.
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
            there = {at for at, box in self.cells if self._holds(array, at, box)}
            if lost := {*self.ledger.done} - there:
                self.ledger.forget(lost)
        return array

    def _holds(self, array: Any, number: int, box: tuple[slice, ...]) -> bool:
        """Whether the voxels of a cell are on the disk as it is recorded."""
        recorded = self.ledger.done.get(number)
        cell = None if recorded is None else self._read(array, box)
        return cell is not None and cell_hash(cell) == recorded.digest

    def _is_recorded(self) -> bool:
        """Whether what an earlier run began is this volume."""
        if not self._about.is_file() or not self._folder.is_dir():
            return False
        try:
            about = json.loads(self._about.read_text())
        except (ValueError, RecursionError):  # edited, or cut short by a power failure
            return False
        return isinstance(about, dict) and about == {"of": self._identity}

    def _start_anew(self) -> None:
        discard_unfinished(self.path)
        self.ledger = Ledger(self.ledger.folder)
        self.path.parent.mkdir(parents=True, exist_ok=True)


def discard_unfinished(path: Path) -> None:
    """Removes what there is of the unfinished volume that was to become `path`."""
    # The description first: without it, the rest is ignored.
    for end in (".partial.json", ".partial.cells", ".partial"):
        discard(path.with_name(path.name + end))


def unfinished_attributes(path: Path) -> dict[str, Any] | None:
    """The attributes of the unfinished volume that is to become `path`, None without one."""
    described = path.with_name(f"{path.name}.partial") / MAIN / "zarr.json"
    try:
        attributes = json.loads(described.read_text())["attributes"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        return None  # Missing, or cut short: such a partial is begun again.
    return attributes if isinstance(attributes, dict) else None
