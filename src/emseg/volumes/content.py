"""What identifies a volume: its files by size and time, and a hash of what is in it.

The hash is stored with a volume that is written, so that edits are detected.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.volumes.attributes import PLACE
from emseg.volumes.cells import Cells
from emseg.volumes.formats import open_source
from emseg.volumes.location import parse_location
from emseg.volumes.skeletons import is_skeletons, skeleton_files

# The attribute that holds the hash, with what is needed to compute it again.
CONTENT = "content"


def cell_hash(cell: np.ndarray) -> str:
    """The SHA-256 of a cell's voxels in C order."""
    return hashlib.sha256(np.ascontiguousarray(cell)).hexdigest()


def stamp(
    hashes: Sequence[str],
    cells: Cells,
    *,
    shape: Sequence[int],
    dtype: np.dtype,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """The attribute `content` of a volume, the same for every file format.

    Args:
        hashes: of each cell of all channels, in order.
        cells: of the volume.
        shape, dtype, attributes: of the volume.
    """
    named = sorted({*attributes} - {CONTENT})
    record = {name: attributes[name] for name in named}
    thickness, *across = cells.size
    # Only if there are several: so were all volumes before there were cells.
    parts = {"across": across} if len(cells.areas) > 1 else {}
    digest = _digest(shape, dtype, record, hashes)
    return {"sha256": digest, "thickness": thickness, **parts, "attributes": named}


def _digest(
    shape: Sequence[int], dtype: np.dtype, record: Mapping[str, Any], hashes: Sequence[str]
) -> str:
    about = [list(shape), np.dtype(dtype).newbyteorder("=").str, record, list(hashes)]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def stored_content(attributes: Mapping[str, Any]) -> str | None:
    """The hash of the content that was written; None if the attributes have no valid one."""
    record = attributes.get(CONTENT)
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        return None
    size, named = _cell_size(record, (1, 1, 1)), record.get("attributes")
    fine = all(type(length) is int and length > 0 for length in size) and isinstance(named, list)
    return record["sha256"] if fine and all(isinstance(name, str) for name in named) else None


def _cell_size(record: Mapping[str, Any], shape: Sequence[int]) -> tuple[Any, ...]:
    across = record.get("across", list(shape[-2:]))
    valid = isinstance(across, list) and len(across) == 2
    return (record.get("thickness"), *(across if valid else (None, None)))


def content_now(location: str | Path) -> str | None:
    """The hash of the present content, all of which is read; None without a stored hash.

    Raises:
        UserError: as for open_volume, or the voxels cannot be read.
    """
    source = open_source(location)
    if stored_content(source.attributes) is None:
        return None
    record = source.attributes[CONTENT]
    cells = Cells(source.shape[-3:], _cell_size(record, source.shape))
    channels = (slice(None),) * (len(source.shape) - 3)
    hashes = [cell_hash(source[(*channels, *box)]) for _, box in cells]
    named = {name: source.attributes.get(name) for name in record["attributes"]}
    # The position is looked for under all its names, to detect one that was added.
    place = {name: source.attributes[name] for name in PLACE if name in source.attributes}
    # Earlier versions hashed the absent names too, as None.
    absent = {name: None for name in PLACE if name != "element_size_um"}
    earlier = _digest(source.shape, source.dtype, absent | place | named, hashes)
    if earlier == record["sha256"]:
        return earlier
    return _digest(source.shape, source.dtype, place | named, hashes)


def identity(location: str | Path, *, verify: bool = False) -> dict[str, Any]:
    """What identifies the files of a volume or of skeletons: size and time, or content too.

    Args:
        location: as for open_volume, or a file or folder of skeletons.
        verify: hash the content of the files too; otherwise no voxel is read.

    Returns:
        `path` as it was written, `dataset`, `shape`, `dtype`, `size` (bytes) and `mtime` (ns) of
        the file; of several files the sum and the latest. The files of a zarr are those of the
        array and the metadata above it, those of HDF5 include the files behind links and virtual
        data sets. `linked` has size and mtime of each further file, by name, that a file (not a
        folder) reads from. With `verify` also `sha256`. Skeletons have no data set, shape or dtype.
        At a URL `state` is in place of size and time: hashes of the metadata, and what the server
        says of their version. `sha256` is of these then, for no voxel is fetched for it.

    Raises:
        UserError: as for open_volume, or there are no skeletons.
    """
    if is_skeletons(location):
        root = Path(location)
        return _of_files(skeleton_files(root), root, {"path": str(root)}, verify=verify)
    parsed = parse_location(location)
    source = open_source(parsed)
    found = {"path": str(parsed.path), "dataset": source.key}
    found |= {"shape": list(source.shape), "dtype": str(source.dtype)}
    if parsed.remote:
        found["state"] = source.state
        digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
        return {**found, "sha256": digest} if verify else found
    files = source.files()
    # Without those of a folder, which are many, and without its own file.
    linked = [] if parsed.path.is_dir() else [file for file in files if file != parsed.path]
    if linked:
        stats = {_name(file, parsed.path): file.stat() for file in linked}
        found["linked"] = {name: [s.st_size, s.st_mtime_ns] for name, s in stats.items()}
    return _of_files(files, parsed.path, found, verify=verify)


def _of_files(
    files: list[Path], root: Path, found: dict[str, Any], *, verify: bool
) -> dict[str, Any]:
    stats = [file.stat() for file in files]
    found["size"] = sum(stat.st_size for stat in stats)
    found["mtime"] = max(stat.st_mtime_ns for stat in stats)
    return {**found, "sha256": _content(files, root)} if verify else found


def _content(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            part = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{_name(file, root)} {part}\n".encode())
    return digest.hexdigest()


def _name(file: Path, root: Path) -> str:
    """The name within the folder `root`, or as seen from the file `root`."""
    inside = file.is_relative_to(root)
    return str(file.relative_to(root)) if inside else os.path.relpath(file, root.parent)
