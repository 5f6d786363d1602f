"""Arrays in zarr folders (formats 2 and 3, OME-Zarr 0.4 and 0.5 read; 3 and 0.5 written)."""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from emseg.errors import UserError
from emseg.volumes.attributes import NANOMETRES, plain
from emseg.volumes.damage import one_line
from emseg.volumes.layout import Layout
from emseg.volumes.location import files_below, pick_dataset, require_regular
from emseg.volumes.source import Presence, StoredSource

# The files with the metadata of a group or an array.
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup")

# Most chunk files that are counted; more would take too long on a network file system.
MOST_COUNTED = 1_000_000

# Chunks of zeros are written too, so that a missing chunk is known to be lost.
ALL_CHUNKS = {"write_empty_chunks": True}


class ZarrArray(StoredSource):
    """An array in a zarr folder: at its root, below a key, or the first scale of a multiscale."""

    def __init__(self, path: Path, key: str) -> None:
        super().__init__(path, _find(path, key))
        place = place_in(self.key, lambda folder: _multiscales(path / folder), where=str(path))
        self._array = open_array(path / self.key)
        describe(self, self._array, place)

    @staticmethod
    def keys(path: Path) -> list[str]:
        """The keys of all arrays, in order."""
        return [*_arrays(path, "", ())]

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        with one_line(f"cannot read '{self.path / self.key}'"):
            return np.asarray(self._array[region])

    def files(self) -> list[Path]:
        """The files that it reads from: the array's, and the metadata above it."""
        inside = (self.path / self.key / name for name in files_below(self.path / self.key))
        return sorted({*inside, *_metadata_above(self.path, self.key)})

    def presence(self) -> list[Presence]:
        """How many of its chunks are stored, or of its shards; UserError for a broken link."""
        folder, array = self.path / self.key, self._array
        with one_line(f"cannot read '{folder}'"):
            parts = "chunks" if array.shards is None else "shards"
            part = array.shards or array.chunks
            grid = [-(-size // step) for size, step in zip(array.shape, part, strict=True)]
            # As c/0/0/0, or 0.0.0.
            first = array.metadata.encode_chunk_key((0,) * len(grid))
        pattern = re.compile(re.escape(first).replace("0", r"(\d+)"))
        present, total = 0, math.prod(grid)
        for name in files_below(folder):
            found = pattern.fullmatch(name)
            if found and all(int(at) < size for at, size in zip(found.groups(), grid, strict=True)):
                present += 1
            if present == MOST_COUNTED and present < total:
                return [Presence(parts, present, total, at_least=True)]
        return [Presence(parts, present, total)]


def describe(source: StoredSource, array: zarr.Array, place: Mapping[str, Any]) -> None:
    """Fills in what the array, and the OME metadata above it (`place_in`), say of the source."""
    source.shape, source.dtype, source.chunks = array.shape, array.dtype, array.chunks
    source.attributes = {**place, **plain(array.attrs.asdict())}
    source.named_axes = _named_axes(array, place)


def create_zarr(folder: Path, layout: Layout) -> zarr.Array:
    """The empty data set in a new zarr v3 group with OME-Zarr 0.5 metadata."""
    scales = [_multiscale(layout.dataset, layout.attributes)]
    group = zarr.create_group(
        store=str(folder),
        zarr_format=3,
        attributes={"ome": {"version": "0.5", "multiscales": scales}},
    )
    return group.create_array(
        layout.dataset,
        shape=layout.shape,
        dtype=layout.dtype,
        chunks=layout.chunks,
        # Level 1 writes 1.5 times as fast as the default level, at the same size.
        compressors=ZstdCodec(level=1),
        dimension_names=list(layout.attributes["axes"]),
        attributes=layout.attributes,
        config=ALL_CHUNKS,
    )


def open_array(folder: Path) -> zarr.Array:
    """The array in the folder, for reading; UserError if its metadata are broken."""
    for name in METADATA:
        if os.path.lexists(folder / name):
            require_regular(folder / name)
    with one_line(f"cannot open '{folder}' as zarr"):
        return zarr.open_array(store=str(folder), mode="r")


def open_partial(folder: Path, dataset: str) -> zarr.Array:
    """An array made by create_zarr, for more writing."""
    return zarr.open_array(store=str(folder / dataset), mode="r+", config=ALL_CHUNKS)


def _arrays(path: Path, key: str, above: tuple[str, ...]) -> Iterator[str]:
    """The keys of all arrays below `key`; folders that contain themselves once."""
    folder = path / key
    if _node(folder) == "array":
        yield key
        return
    real = os.path.realpath(folder)
    if real in above:
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            yield from _arrays(path, f"{key}/{child.name}".lstrip("/"), (*above, real))


def _metadata_above(path: Path, key: str) -> Iterator[Path]:
    """The metadata files of the groups above the array, which may hold voxel size and axes."""
    folder = path / key
    while folder != path:
        folder = folder.parent
        for name in METADATA:
            if (folder / name).is_file():
                yield folder / name


def _multiscale(dataset: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    letters, size = attributes["axes"], attributes.get("resolution")
    channels = [1.0] * letters.count("c")
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": channels + (size or [1.0] * 3)}]
    if size and "offset" in attributes:
        origin = [0.0] * len(channels) + attributes["offset"]
        transforms.append({"type": "translation", "translation": origin})
    # Without a unit the scale counts voxels: readers see that the size is unknown.
    space = {"type": "space", **({"unit": "nanometer"} if size else {})}
    return {
        "axes": [
            {"name": letter, **({"type": "channel"} if letter == "c" else space)}
            for letter in letters
        ],
        "datasets": [{"path": dataset, "coordinateTransformations": transforms}],
    }


def _find(path: Path, key: str) -> str:
    if _node(path / key) == "array":
        return key
    with one_line(f"the OME metadata of '{path / key}' are damaged"):
        scales = _multiscales(path / key)
        first = str(Path(key) / scales[0]["datasets"][0]["path"]) if scales else None
    if first is not None and _node(path / first) == "array":
        return first
    return pick_dataset(ZarrArray.keys(path), key, where=path)


def _node(folder: Path) -> Literal["array", "group"]:
    if (folder / "zarr.json").is_file():
        return _json(folder / "zarr.json").get("node_type", "group")
    return "array" if (folder / ".zarray").is_file() else "group"


def _multiscales(folder: Path) -> list[dict[str, Any]]:
    if (folder / "zarr.json").is_file():
        attributes = _json(folder / "zarr.json").get("attributes", {})
    elif (folder / ".zattrs").is_file():
        attributes = _json(folder / ".zattrs")
    else:
        attributes = {}
    return multiscales_of(attributes)


def multiscales_of(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The multiscales of OME-Zarr in the attributes of a group."""
    return attributes.get("ome", attributes).get("multiscales", [])


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{path}' is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"'{path}' holds {str(found)[:40]}, not metadata (a mapping)")
    return found


def _named_axes(array: zarr.Array, place: Mapping[str, Any]) -> dict[str, Any]:
    """Axis names outside the array's own attributes: those of zarr 3 itself, and of OME-Zarr."""
    named = {"multiscales": place["axes"]} if "axes" in place else {}
    names = getattr(array.metadata, "dimension_names", None)
    return named if names is None else {"dimension_names": list(names), **named}


def place_in(
    key: str, scales_at: Callable[[str], list[dict[str, Any]]], *, where: str
) -> dict[str, Any]:
    """Axes, resolution and offset (nm) by the multiscales of the groups above (`.` is the root)."""
    for folder in PurePosixPath(key).parents:
        name = str(PurePosixPath(key).relative_to(folder))
        with one_line(f"the OME metadata of '{where}/{folder}' are damaged"):
            for scales in scales_at(str(folder)):
                for scale in scales["datasets"]:
                    if scale["path"] == name:
                        return _place_of(scales, scale)
    return {}


def _place_of(scales: Mapping[str, Any], scale: Mapping[str, Any]) -> dict[str, Any]:
    if "axes" not in scales:  # Versions 0.1 and 0.2 know neither axes nor transforms.
        return {}
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scales["axes"]]
    letters = ["c" if axis.get("type") == "channel" else axis["name"].lower() for axis in axes]
    place: dict[str, Any] = {"axes": letters}
    size, origin = np.ones(len(axes)), np.zeros(len(axes))
    # Transforms apply in order, those of the whole multiscale after those of the one scale.
    transforms = _transforms(scale) + _transforms(scales)
    if any("path" in transform for transform in transforms):  # Its numbers are stored in an array.
        return place
    for transform in transforms:
        if transform["type"] == "scale":
            factors = _numbers(transform, "scale", len(axes))
            size, origin = size * factors, origin * factors
        elif transform["type"] == "translation":
            origin = origin + _numbers(transform, "translation", len(axes))
    spatial = [index for index, letter in enumerate(letters) if letter in ("z", "y", "x")]
    units = [NANOMETRES.get(axes[index].get("unit", "")) for index in spatial]
    if None not in units:
        place["resolution"] = [float(size[i] * u) for i, u in zip(spatial, units, strict=True)]
        if any(transform["type"] == "translation" for transform in transforms):
            place["offset"] = [float(origin[i] * u) for i, u in zip(spatial, units, strict=True)]
    return place


def _transforms(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(node.get("coordinateTransformations", []))


def _numbers(transform: Mapping[str, Any], kind: str, count: int) -> np.ndarray:
    numbers = np.array(transform[kind], np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError(f"{kind} {transform[kind]} is not {count} numbers, one for each axis")
    return numbers
