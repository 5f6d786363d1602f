"""Fingerprints: a hash of all that a result depends on, so that no stale result is used."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from emseg.errors import UserError
from emseg.volumes import identity, read_attributes
from emseg.volumes.atomic import discard, replacing, writing
from emseg.volumes.content import content_now, stored_content
from emseg.volumes.location import require_local

# Increased when the layout of an artifact changes; files with other numbers are refused.
FORMAT_VERSION = 1

# Increased manually when a stage's output changes for the same inputs.
STAGE_VERSIONS = {"infer": 2, "decode": 1, "evaluate": 1, "tune": 1, "sweep": 1}

# The formats of a result; a stage leaves one of them.
SUFFIXES = (".h5", ".zarr")


def fingerprint(stage: str, facts: Mapping[str, Any]) -> str:
    """A hash of everything that determines the stage's result: equal facts, equal fingerprint.

    Args:
        stage: a name in `STAGE_VERSIONS`.
        facts: plain containers (numbers, strings, lists, mappings, None). Input files count by
            path, size and time, never by content: `--verify` compares that separately (see
            `same_contents`), so that turning it on or off makes no result stale.
    """
    text = json.dumps({"stage": stage, "version": STAGE_VERSIONS[stage], **facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def contents(inputs: Iterable[str | Path]) -> dict[str, str]:
    """A hash of each input file's bytes, by its location; stored with every result when it is made.

    Of a volume at a URL it is of its metadata.

    Raises:
        UserError: an input is missing or broken.
    """
    return {str(location): identity(location, verify=True)["sha256"] for location in inputs}


def same_contents(stored: Mapping[str, Any], inputs: Iterable[str | Path]) -> bool:
    """Whether a result was made from exactly these bytes, which `--verify` checks in addition.

    Args:
        stored: the result's attributes.
        inputs: the locations of all files from which it is made.

    Raises:
        UserError: an input is missing or broken, or at a URL, where no bytes were hashed.
    """
    for location in inputs:
        require_local(location, "--verify cannot compare the bytes of")
    return bool(stored.get("contents") == contents(inputs))


def find_current(
    folder: Path,
    name: str,
    wanted: str,
    *,
    inputs: Iterable[str | Path],
    verify: bool,
    report: Callable[[str], None] | None = None,
) -> Path | None:
    """The artifact in the folder if it has the wanted fingerprint, or None.

    Args:
        folder: where it is looked for.
        name: without the suffix of HDF5 or zarr.
        wanted: the fingerprint.
        inputs: the locations of all files from which it is made.
        verify: its inputs and its own content must also be unchanged.
        report: gets a line if its own content is not what was written.

    Raises:
        UserError: an artifact has no known format version: we must not overwrite it.
    """
    for path in existing(folder, name):
        stored = read_attributes(path)
        check_format(path, stored)
        if stored.get("fingerprint") != wanted:
            continue
        if verify and not same_contents(stored, inputs):
            continue
        change = change_of(path, stored) if verify else None
        if change is None:
            return path
        if report is not None:
            report(f"{path.name} {change}: made anew")
    return None


def change_of(path: Path, stored: Mapping[str, Any]) -> str | None:
    """None for an artifact that holds what was written, else what is wrong with it."""
    written = stored_content(stored)
    if written is None:
        return "has no hash of its content, which --verify needs"
    try:
        return None if content_now(path) == written else "was changed after it was written"
    except UserError:
        return "cannot be read"


def existing(folder: Path, name: str) -> list[Path]:
    """The files of an artifact that exist, HDF5 before zarr; a stage leaves one of them."""
    return [path for path in (folder / f"{name}{end}" for end in SUFFIXES) if path.exists()]


def supersede(path: Path) -> None:
    """Removes an earlier run's file of the artifact in the other format than that of `path`."""
    for older in existing(path.parent, path.stem):
        if older != path:
            with writing(older):
                discard(older)


def check_format(path: Path, stored: Mapping[str, Any]) -> None:
    """Checks that this emseg knows the format of an artifact.

    Args:
        path: of the artifact, for the message.
        stored: its attributes, or the content of a JSON file.

    Raises:
        UserError: `format_version` is missing or unknown.
    """
    found = stored.get("format_version")
    if found is None:
        raise UserError(f"{path} was not written by emseg (it has no format_version)")
    if found != FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version {found} is unknown to this emseg (it knows {FORMAT_VERSION}); "
            "convert it with the emseg that wrote it, or move it away"
        )


def write_json(path: Path, value: Any) -> None:
    """Writes plain containers as JSON, whole or not at all.

    JSON has no inf and nan: they become the strings that float() reads.
    """
    with replacing(path) as partial:
        partial.write_text(json.dumps(for_json(value), indent=2, allow_nan=False) + "\n")


def for_json(value: Any) -> Any:
    """The value for JSON, which has no inf and nan: they become the strings that float() reads."""
    if isinstance(value, Mapping):
        return {key: for_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
