"""What tells one input volume from another, for fingerprints."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emseg.volumes.location import Location, parse_location
from emseg.volumes.sections import section_files
from emseg.volumes.skeletons import is_skeletons, skeleton_files
from emseg.volumes.source import open_source


def identity(location: str | Path, *, verify: bool = False) -> dict[str, Any]:
    """The path as it was written, data set, size, mtime (ns), shape and dtype of a volume.

    Size and mtime are the file's; of a zarr, the sum and the latest over the files of the array
    and the metadata above it, none of which is opened. Skeletons have neither data set, shape nor
    dtype. With `verify` also `sha256`, over the content of these files. UserError as for
    open_volume, or for skeletons that are not there.
    """
    if is_skeletons(location):
        root = Path(location)
        return _of_files(skeleton_files(root), root, {"path": str(root)}, verify=verify)
    parsed = parse_location(location)
    source = open_source(parsed)
    found = {"path": str(parsed.path), "dataset": source.key}
    found |= {"shape": list(source.shape), "dtype": str(source.dtype)}
    return _of_files(_files(parsed, source.key), parsed.path, found, verify=verify)


def _of_files(
    files: list[Path], root: Path, found: dict[str, Any], *, verify: bool
) -> dict[str, Any]:
    stats = [file.stat() for file in files]
    found["size"] = sum(stat.st_size for stat in stats)
    found["mtime"] = max(stat.st_mtime_ns for stat in stats)
    return {**found, "sha256": _content(files, root)} if verify else found


def _files(location: Location, key: str) -> list[Path]:
    if location.format == "sections":
        return section_files(location.path, key)
    if location.format != "zarr":
        return [location.path]
    from emseg.volumes.ome_zarr import metadata_files

    inside = (path for path in (location.path / key).rglob("*") if path.is_file())
    return sorted({*inside, *metadata_files(location.path, key)})


def _content(files: Iterable[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            part = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(root)} {part}\n".encode())
    return digest.hexdigest()
