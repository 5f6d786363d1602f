"""What is in files of volumes, data set by data set: the verb inspect."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emseg.errors import UserError, unknown_name
from emseg.volumes.atomic import replacing
from emseg.volumes.attributes import resolve_axes, stored_voxel_size
from emseg.volumes.location import Location, parse_location, require_there


@dataclass(frozen=True)
class DataSet:
    """A stored array: its chunks, axes and resolution (nm, in their order) are None if it has none.

    Axes that nothing says are zyx, as a volume is read.
    """

    file: str
    key: str
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...] | None
    axes: str | None
    resolution: tuple[float, ...] | None

    def __str__(self) -> str:
        where = f"{self.file}:{self.key}" if self.key else self.file
        size = " x ".join(f"{length:g}" for length in self.resolution or ())
        chunks = " x ".join(map(str, self.chunks or ()))
        return ", ".join(
            (
                f"{where}: {' x '.join(map(str, self.shape)) or 'one value'}",
                self.dtype,
                f"chunks {chunks}" if chunks else "no chunks",
                f"axes {self.axes}" if self.axes else "no axes of a volume",
                f"resolution {size} nm" if size else "no resolution",
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
    listing = {"hdf5": _in_hdf5, "zarr": _in_zarr, "tiff": _in_tiff}[location.format]
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


def _described(path: Path, key: str, array: Any, chunks: tuple[int, ...] | None) -> DataSet:
    axes = _axes(array.shape, array.attributes)
    return DataSet(
        file=str(path),
        key=key,
        shape=tuple(array.shape),
        dtype=str(array.dtype),
        chunks=chunks,
        axes=axes,
        resolution=_resolution(array.attributes) if axes else None,
    )


def _axes(shape: Sequence[int], attributes: Mapping[str, Any]) -> str | None:
    try:
        axes, channel = resolve_axes(shape, attributes.get("axes"), where="")
    except UserError:
        return None
    return axes if channel is None else f"{axes[:channel]}c{axes[channel:]}"


def _resolution(attributes: Mapping[str, Any]) -> tuple[float, ...] | None:
    try:
        return stored_voxel_size(attributes, where="")
    except UserError:
        return None
