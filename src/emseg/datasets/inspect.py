"""What is in files of volumes, data set by data set: the verb inspect."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from emseg.errors import UserError
from emseg.progress import say
from emseg.volumes.atomic import replacing
from emseg.volumes.attributes import stored_offset, stored_voxel_size
from emseg.volumes.axes import Arrangement, arrange
from emseg.volumes.damage import one_line
from emseg.volumes.location import Location, parse_location, require_there
from emseg.volumes.presence import Presence, presence
from emseg.volumes.source import StoredSource, open_stored, stated_axes


@dataclass(frozen=True)
class DataSet:
    """A stored array: its chunks, axes and place (nm, in their order) are None if it has none.

    Axes are those it is read with; `axes_from` is where the file names them, None where it does
    not, so that they are zyx. `stored` says how much of it is there, `others` which further files
    it draws from.
    """

    file: str
    key: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...] | None
    axes: str | None
    axes_from: str | None
    resolution: tuple[float, ...] | None
    offset: tuple[float, ...] | None
    stored: tuple[Presence, ...]
    others: tuple[str, ...]

    def __str__(self) -> str:
        where = f"{self.file}:{self.key}" if self.key else self.file
        size = " x ".join(f"{length:g}" for length in self.resolution or ())
        offset = " x ".join(f"{length:g}" for length in self.offset or ())
        chunks = " x ".join(map(str, self.chunks or ()))
        stated = f" ({self.axes_from})" if self.axes_from else ""
        # Of an array in one piece nothing is to be said where it is there.
        stored = [str(part) for part in self.stored if part.parts != "voxels" or part.absent]
        more = len(self.others) - 1
        return ", ".join(
            (
                f"{where}: {' x '.join(map(str, self.shape)) or 'one value'}",
                self.dtype,
                f"chunks {chunks}" if chunks else "no chunks",
                f"axes {self.axes}{stated}" if self.axes else "no axes of a volume",
                f"resolution {size} nm" if size else "no resolution",
                *([f"offset {offset} nm"] if offset else []),
                *stored,
                *[f"from {one}{f' and {more} more' * (more > 0)}" for one in self.others[:1]],
            )
        )


@dataclass(frozen=True)
class Unread:
    """A file, or a data set, that cannot be read, and why."""

    file: str
    error: str


def inspect(*files: str, json: str | None = None) -> None:
    """Nothing; a line on standard output for each data set of each HDF5, zarr or TIFF file.

    A location with a key is that data set, or those below that group. `json` names a file that
    gets the same as a list of records. What is missing or broken is passed over; at the end each
    has a line on standard error, the last one's as a UserError.
    """
    to = None if json is None else Path(json)
    if to is not None and to.suffix != ".json":
        raise UserError(f"--json {to}: the file to be written must end in .json")
    found = []
    for one in (one for file in files for one in _data_sets(file)):
        found.append(one)
        if isinstance(one, DataSet):
            print(one, flush=True)
    if to is not None:
        _write(found, to)
    errors = [one.error for one in found if isinstance(one, Unread)]
    for error in errors[:-1]:
        say(error)
    if errors:
        raise UserError(errors[-1])


def _write(found: Sequence[DataSet | Unread], to: Path) -> None:
    with replacing(to) as partial:
        partial.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


def _data_sets(file: str) -> Iterator[DataSet | Unread]:
    try:
        location = parse_location(file)
        keys = _keys(location)
    except UserError as error:
        yield Unread(file, error.line())
        return
    for key in keys:
        one = replace(location, key=key)
        try:
            yield _described(one)
        except UserError as error:
            yield Unread(str(one), error.line())


def _keys(location: Location) -> list[str]:
    require_there(location)
    with one_line(f"cannot open '{location.path}' as {location.format}"):
        found = {"hdf5": _in_hdf5, "zarr": _in_zarr}.get(location.format, _alone)(location.path)
    wanted = location.key
    below = [key for key in found if not wanted or key == wanted or key.startswith(f"{wanted}/")]
    if not found:
        raise UserError(f"'{location.path}' holds no data set")
    # Another name of one that is listed, or none, which is refused with the names there are.
    return below or [open_stored(location).key]


def _in_hdf5(path: Path) -> list[str]:
    from emseg.volumes.hdf5_links import data_sets, open_hdf5

    with open_hdf5(path) as file:
        keys, dangling = data_sets(file)
    return keys + dangling


def _in_zarr(path: Path) -> list[str]:
    from emseg.volumes.ome_zarr import arrays

    return list(arrays(path))


def _alone(_: Path) -> list[str]:
    """Of a TIFF file, or a folder of sections, which have no keys."""
    return [""]


def _described(location: Location) -> DataSet:
    array = open_stored(location)
    seen = _arrangement(array)
    return DataSet(
        file=str(location.path),
        key=array.key,
        shape=tuple(array.shape),
        dtype=str(array.dtype),
        chunks=array.chunks,
        axes=seen and seen.letters,
        axes_from=seen and seen.stated,
        resolution=seen and _place(stored_voxel_size, array, seen),
        offset=seen and _place(stored_offset, array, seen),
        stored=tuple(presence(location)),
        others=() if location.path.is_dir() else tuple(map(str, array.files()[1:])),
    )


def _arrangement(array: StoredSource) -> Arrangement | None:
    if len(array.shape) < 2:
        return None
    try:
        return arrange(array.shape, stated=stated_axes(array), where="")
    except UserError:
        return None


def _place(
    read: Callable[..., tuple[float, ...] | None], array: StoredSource, seen: Arrangement
) -> tuple[float, ...] | None:
    try:
        return read(array.attributes, where="", order=seen.spatial)
    except UserError:
        return None
