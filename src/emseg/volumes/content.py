"""One hash of a written volume's content, stored with the volume so that edits are detected."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emseg.volumes.attributes import PLACE
from emseg.volumes.formats import open_source

# The attribute that holds the hash, with what is needed to compute it again.
CONTENT = "content"


def row_hash(row: np.ndarray) -> str:
    """The SHA-256 of a slab's voxels in C order."""
    return hashlib.sha256(np.ascontiguousarray(row)).hexdigest()


def stamp(
    rows: Sequence[str],
    thickness: int,
    *,
    shape: Sequence[int],
    dtype: np.dtype,
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """The attribute `content` of a volume, the same for every file format.

    A row is `thickness` voxels along axis -3, of all channels.
    """
    named = sorted({*attributes} - {CONTENT})
    record = {name: attributes[name] for name in named}
    digest = _digest(shape, dtype, record, rows)
    return {"sha256": digest, "thickness": thickness, "attributes": named}


def _digest(
    shape: Sequence[int], dtype: np.dtype, record: Mapping[str, Any], rows: Sequence[str]
) -> str:
    about = [list(shape), np.dtype(dtype).newbyteorder("=").str, record, list(rows)]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def stored_content(attributes: Mapping[str, Any]) -> str | None:
    """The hash of the content that was written; None if the volume has no stored hash."""
    record = attributes.get(CONTENT)
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        return None
    thickness, named = record.get("thickness"), record.get("attributes")
    fine = type(thickness) is int and thickness > 0 and isinstance(named, list)
    return record["sha256"] if fine and all(isinstance(name, str) for name in named) else None


def content_now(location: str | Path) -> str | None:
    """The hash of the present content, all of which is read; None without a stored hash."""
    source = open_source(location)
    if stored_content(source.attributes) is None:
        return None
    record = source.attributes[CONTENT]
    thickness, depth = record["thickness"], source.shape[-3]
    whole = (slice(None),) * (len(source.shape) - 3)
    rows = [
        row_hash(source[(*whole, slice(at, min(at + thickness, depth)), slice(None), slice(None))])
        for at in range(0, depth, thickness)
    ]
    named = {name: source.attributes.get(name) for name in record["attributes"]}
    # The position is looked for under all its names, to detect one that was added.
    place = {name: source.attributes[name] for name in PLACE if name in source.attributes}
    # Earlier versions hashed the absent names too, as None.
    absent = {name: None for name in PLACE if name != "element_size_um"}
    earlier = _digest(source.shape, source.dtype, absent | place | named, rows)
    if earlier == record["sha256"]:
        return earlier
    return _digest(source.shape, source.dtype, place | named, rows)
