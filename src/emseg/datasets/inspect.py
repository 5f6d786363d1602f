"""Lists the data sets in files of volumes: the verb inspect."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from emseg.errors import UserError
from emseg.runs.run_folder import say
from emseg.volumes.atomic import replacing
from emseg.volumes.attributes import stored_offset, stored_voxel_size
from emseg.volumes.axes import arrange
from emseg.volumes.formats import all_keys, open_stored
from emseg.volumes.location import Location, parse_location
from emseg.volumes.source import StoredSource

Record = dict[str, Any]


def inspect(*files: str, json: str | None = None) -> None:
    """Prints a line for each data set of each HDF5, zarr or TIFF file, or stack of section images.

    Missing or broken files are skipped, with a line on standard error at the end.

    Args:
        files: files or folders; with a key, that data set or those below that group.
        json: a file (`.json`) that gets the same as a list of records.

    Raises:
        UserError: the line for the last one that cannot be read; or `json` has another suffix or
            cannot be written.
    """
    to = None if json is None else Path(json)
    if to is not None and to.suffix != ".json":
        raise UserError(f"--json {to}: the file to be written must end in .json")
    records = []
    for record in (record for file in files for record in _records(file)):
        records.append(record)
        if "error" not in record:
            print(_line(record), flush=True)
    if to is not None:
        _write(records, to)
    errors = [record["error"] for record in records if "error" in record]
    for error in errors[:-1]:
        say(error)
    if errors:
        raise UserError(errors[-1])


def _write(records: list[Record], to: Path) -> None:
    with replacing(to) as partial:
        partial.write_text(json.dumps(records, indent=2, default=asdict) + "\n")


def _records(file: str) -> Iterator[Record]:
    try:
        location = parse_location(file)
        keys = _keys(location)
    except UserError as error:
        yield {"file": file, "error": error.line()}
        return
    for key in keys:
        one = replace(location, key=key)
        try:
            yield _record(one)
        except UserError as error:
            yield {"file": str(one), "error": error.line()}


def _keys(location: Location) -> list[str]:
    found = all_keys(location)
    wanted = location.key
    below = [key for key in found if not wanted or key == wanted or key.startswith(f"{wanted}/")]
    if not found:
        raise UserError(f"'{location.path}' holds no data set")
    # Another name of a listed one, or an unknown name, for which the error lists the names.
    return below or [open_stored(location).key]


def _record(location: Location) -> Record:
    """The facts about a stored array; None for missing ones.

    Axes are those used for reading, `axes_from` is where the file names them. `others` are further
    files that it reads from. The position is in nm, in the order of the axes.
    """
    array = open_stored(location)
    return {
        "file": str(location.path),
        "key": array.key,
        "shape": tuple(array.shape),
        "dtype": str(array.dtype),
        "chunks": array.chunks,
        **dict.fromkeys(("axes", "axes_from", "resolution", "offset")),
        **_seen(array),
        "stored": array.presence(),
        "others": []
        if location.remote or location.path.is_dir()
        else [str(file) for file in array.files()[1:]],
    }


def _seen(array: StoredSource) -> Record:
    """Axes and position, as far as they can be found."""
    found: Record = {}
    if len(array.shape) < 2:
        return found
    try:
        seen = arrange(array.shape, stated=array.stated_axes(), where="")
    except UserError:
        return found
    found |= {"axes": seen.letters, "axes_from": seen.stated}
    for name, read in (("resolution", stored_voxel_size), ("offset", stored_offset)):
        try:
            found[name] = read(array.attributes, where="", order=seen.order)
        except UserError:
            found[name] = None
    return found


def _line(record: Record) -> str:
    where = f"{record['file']}:{record['key']}" if record["key"] else record["file"]
    stated = f" ({record['axes_from']})" if record["axes_from"] else ""
    size = record["resolution"]
    parts = [
        f"{where}: {_sizes(record['shape']) or 'one value'}",
        record["dtype"],
        f"chunks {_sizes(record['chunks'])}" if record["chunks"] else "no chunks",
        f"axes {record['axes']}{stated}" if record["axes"] else "no axes of a volume",
        f"resolution {_sizes(size)} nm" if size else "no resolution",
    ]
    if record["offset"]:
        parts.append(f"offset {_sizes(record['offset'])} nm")
    # Nothing to report for a complete array in one piece.
    parts += [str(part) for part in record["stored"] if part.parts != "voxels" or part.absent]
    if record["others"]:
        first, *more = record["others"]
        parts.append(f"from {first} and {len(more)} more" if more else f"from {first}")
    return ", ".join(parts)


def _sizes(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" if isinstance(n, float) else str(n) for n in numbers)
