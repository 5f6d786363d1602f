"""What is in files of volumes, data set by data set: the verb inspect."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emseg.errors import UserError, unknown_name
from emseg.volumes.atomic import replacing
from emseg.volumes.attributes import stored_offset, stored_voxel_size
from emseg.volumes.axes import Arrangement, arrange
from emseg.volumes.location import Location, parse_location, require_there
from emseg.volumes.source import stated_axes


@dataclass(frozen=True)
class DataSet:
    """A stored array: its chunks, axes and place (nm, in their order) are None if it has none.

    Axes are those it is read with; `axes_from` is where the file names them, None where it does
    not, so that they are zyx.
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

    def __str__(self) -> str:
        where = f"{self.file}:{self.key}" if self.key else self.file
        size = " x ".join(f"{length:g}" for length in self.resolution or ())
        offset = " x ".join(f"{length:g}" for length in self.offset or ())
        chunks = " x ".join(map(str, self.chunks or ()))
        stated = f" ({self.axes_from})" if self.axes_from else ""
        return ", ".join(
            (
                f"{where}: {' x '.join(map(str, self.shape)) or 'one value'}",
                self.dtype,
                f"chunks {chunks}" if chunks else "no chunks",
                f"axes {self.axes}{stated}" if self.axes else "no axes of a volume",
                f"resolution {size} nm" if size else "no resolution",
                *([f"offset {offset} nm"] if offset else []),
            )
        )


def inspect(*files: str, json: str | None = None) -> None:
    """Nothing; a line on standard output for each data set of each HDF5, zarr or TIFF file.

    A location with a key is that data set, or those below that group. `json` names a file that
    gets the same as a list of records. UserError for a file that is none, missing or broken.
    """
    to = None if json is None else Path(json)
    if to is not None and to.suffix != ".json":
        raise UserError(f"--json {to}: the file to be written must end in .json")
    found = [data_set for file in files for data_set in _data_sets(parse_location(file))]
    for data_set in found:
        print(data_set)
    if to is not None:
        _write(found, to)


def _write(found: Sequence[DataSet], to: Path) -> None:
    with replacing(to) as partial:
        partial.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n")


def _data_sets(location: Location) -> list[DataSet]:
    require_there(location)
    listing = {"hdf5": _in_hdf5, "zarr": _in_zarr, "tiff": _in_tiff}.get(location.format)
    if listing is None:
        return [_described(location.path, *_section_folder(location))]
    found = [_described(location.path, *one) for one in listing(location.path)]
    wanted = location.key
    below = [
        one for one in found if not wanted or one.key == wanted or one.key.startswith(f"{wanted}/")
    ]
    if not found:
        raise UserError(f"'{location.path}' holds no data set")
    if not below:
        keys = [one.key for one in found]
        raise unknown_name("data set", wanted, keys, where=f"'{location.path}'")
    return below


# A data set as its file has it: (key, array with shape, dtype and attributes, chunks).
Listed = tuple[str, Any, tuple[int, ...] | None]


def _in_hdf5(path: Path) -> Iterator[Listed]:
    from emseg.volumes.hdf5 import Hdf5Array, open_hdf5

    keys: list[str] = []
    with open_hdf5(path) as file:
        file.visititems(lambda name, node: keys.append(name) if hasattr(node, "shape") else None)
        for key in keys:
            yield key, Hdf5Array(path, key), file[key].chunks


def _in_zarr(path: Path) -> Iterator[Listed]:
    import zarr

    from emseg.volumes.ome_zarr import ZarrArray

    try:
        root = zarr.open(store=str(path), mode="r")
        nodes = [("", root)] if isinstance(root, zarr.Array) else root.members(max_depth=None)
        arrays = sorted((key, node) for key, node in nodes if isinstance(node, zarr.Array))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot open '{path}' as zarr: {error}") from error
    for key, node in arrays:
        yield key, ZarrArray(path, key), node.chunks


def _in_tiff(path: Path) -> Iterator[Listed]:
    from emseg.volumes.tiff import TiffStack

    yield "", TiffStack(path), None


def _section_folder(location: Location) -> Listed:
    from emseg.volumes.sections import SectionFolder

    folder = SectionFolder(location.path, location.key)
    return folder.key, folder, None


def _described(path: Path, key: str, array: Any, chunks: tuple[int, ...] | None) -> DataSet:
    seen = _arrangement(array)
    return DataSet(
        file=str(path),
        key=key,
        shape=tuple(array.shape),
        dtype=str(array.dtype),
        chunks=chunks,
        axes=seen and seen.letters,
        axes_from=seen and seen.stated,
        resolution=seen and _place(stored_voxel_size, array, seen),
        offset=seen and _place(stored_offset, array, seen),
    )


def _arrangement(array: Any) -> Arrangement | None:
    if len(array.shape) < 2:
        return None
    try:
        return arrange(array.shape, stated=stated_axes(array), where="")
    except UserError:
        return None


def _place(
    read: Callable[..., tuple[float, ...] | None], array: Any, seen: Arrangement
) -> tuple[float, ...] | None:
    try:
        return read(array.attributes, where="", order=seen.spatial)
    except UserError:
        return None
