"""What identifies an input volume, for fingerprints."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emseg.volumes.formats import open_source
from emseg.volumes.location import parse_location
from emseg.volumes.skeletons import is_skeletons, skeleton_files


def identity(location: str | Path, *, verify: bool = False) -> dict[str, Any]:
    """The path as it was written, data set, size, mtime (ns), shape and dtype of a volume.

    Size and mtime are the file's; for several files the sum and the latest. For a zarr these are
    the files of the array and the metadata above it, none of which is opened. For HDF5 they include
    the files behind links and virtual data sets, and `linked` has size and mtime of each by name.
    Skeletons have no data set, shape or dtype. With `verify` also `sha256`, over the content of
    these files. UserError as for open_volume, or for missing skeletons.
    """
    if is_skeletons(location):
        root = Path(location)
        return _of_files(skeleton_files(root), root, {"path": str(root)}, verify=verify)
    parsed = parse_location(location)
    source = open_source(parsed)
    found = {"path": str(parsed.path), "dataset": source.key}
    found |= {"shape": list(source.shape), "dtype": str(source.dtype)}
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
