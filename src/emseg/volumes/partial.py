"""A volume in the making: filled slab by slab, resumed after a kill, visible when finished."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.volumes.atomic import discard, publish, replacing, writing
from emseg.volumes.layout import make_layout
from emseg.volumes.location import MAIN, output_format


class PartialVolume:
    """`<path>.partial`, a zarr folder, with a ledger beside it, on the way to become `path`.

    Slabs along the first spatial axis come in order, of any thickness; whole rows of chunks go to
    the disk, then into the ledger, so that a process killed at any moment resumes at `done()` and
    no chunk has two writers. An older partial is taken up when its layout and
    `attributes["fingerprint"]` are the same, else it is thrown away. `path` ends in `.h5` or
    `.zarr`; arguments and what is stored are those of write_volume. UserError when the folder
    refuses.
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
    ) -> None:
        from emseg.volumes.ome_zarr import create_zarr, open_partial

        self.path = Path(path)
        self._format = output_format(self.path)
        self._folder = self.path.with_name(f"{self.path.name}.partial")
        self._ledger = self.path.with_name(f"{self.path.name}.partial.json")
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
            "axes": axes,
            "dtype": self._layout.dtype.str,
            "shape": list(self._layout.shape),
            "chunks": list(self._layout.chunks),
        }
        with writing(self.path):
            done = self._recorded()
            if done is None:
                self._start_anew()
                self._array = create_zarr(self._folder, self._layout)
                self._record(0)
            else:
                self._array = open_partial(self._folder, self._layout.dataset)
        self._done = self._next = done or 0
        self._row: np.ndarray | None = None

    def done(self) -> int:
        """The number of voxels along the first spatial axis that are safe on the disk."""
        return self._done

    def write(self, start: int, array: np.ndarray) -> None:
        """Takes the slab (C?, n, Y, X) that begins at `start` along the first spatial axis.

        ValueError unless it follows the slab before it (after opening: `done()`) and has the
        dtype and the full size of the other axes.
        """
        self._check_slab(start, array)
        taken = 0
        while taken < array.shape[-3]:
            row = self._buffer()
            filled = self._next - self._done
            count = min(array.shape[-3] - taken, row.shape[-3] - filled)
            row[..., filled : filled + count, :, :] = array[..., taken : taken + count, :, :]
            taken += count
            self._next += count
            if filled + count == row.shape[-3]:
                self._store(row)

    def finish(self) -> Path:
        """The path of the volume, now whole and visible; ValueError while slabs are missing."""
        if self._done != self._depth:
            raise ValueError(f"'{self.path}' is filled to {self._done} of {self._depth}")
        if self._format == "zarr":
            with writing(self.path):
                publish(self._folder, self.path)
        else:
            from emseg.volumes.hdf5 import write_hdf5

            with replacing(self.path) as temporary:
                write_hdf5(temporary, self._slabs(), self._layout)
        with writing(self.path):
            discard(self._folder)
            discard(self._ledger)
        return self.path

    @property
    def _depth(self) -> int:
        return self._layout.shape[-3]

    def _slabs(self) -> Iterator[tuple[int, np.ndarray]]:
        step = self._layout.chunks[-3]
        for start in range(0, self._depth, step):
            yield start, np.asarray(self._array[..., start : min(start + step, self._depth), :, :])

    def _buffer(self) -> np.ndarray:
        *channels, depth, height, width = self._layout.shape
        thickness = min(self._layout.chunks[-3], depth - self._done)
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

    def _store(self, row: np.ndarray) -> None:
        stop = self._done + row.shape[-3]
        with writing(self.path):
            self._array[..., self._done : stop, :, :] = row
            self._record(stop)
        self._done = stop

    def _recorded(self) -> int | None:
        if not self._ledger.is_file() or not self._folder.is_dir():
            return None
        try:
            ledger = json.loads(self._ledger.read_text())
        except ValueError:  # Cut short by a loss of power, which a rename does not outlast.
            return None
        return ledger["done"] if ledger["of"] == self._identity else None

    def _start_anew(self) -> None:
        # The ledger goes first: without it, what is left of the folder counts for nothing.
        discard(self._ledger)
        discard(self._folder)
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def _record(self, done: int) -> None:
        temporary = self._ledger.with_name(f"{self._ledger.name}.tmp")
        temporary.write_text(json.dumps({"of": self._identity, "done": done}))
        temporary.replace(self._ledger)


def unfinished_attributes(path: Path) -> dict[str, Any] | None:
    """The attributes of the volume in the making that is to become `path`, None without one."""
    described = path.with_name(f"{path.name}.partial") / MAIN / "zarr.json"
    try:
        attributes = json.loads(described.read_text())["attributes"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
        return None  # Not there, or cut short: such a partial is begun anew.
    return attributes if isinstance(attributes, dict) else None
