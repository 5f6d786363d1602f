"""metrics.json: the records of all evaluations of a run's results, and where each result is."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emseg.errors import UserError
from emseg.runs.artifacts import FORMAT_VERSION, check_format, for_json, write_json
from emseg.runs.earlier import latest_name, listed
from emseg.runs.lock import MOMENT, locked
from emseg.runs.run_folder import say
from emseg.volumes.location import require_regular

NAME = "metrics.json"

Record = dict[str, Any]


def find_record(folder: Path, key: str) -> Record | None:
    """The unchanged record of that fingerprint, None if there is none."""
    record = _read(folder / NAME)["records"].get(key)
    if record is None:
        return None
    # Records from before the hash have none.
    hashed = not isinstance(record, dict) or record.get("sha256", _hash(record)) == _hash(record)
    if not hashed or scores_of(record) is None:
        say(f"{folder / NAME}: the record of this evaluation was changed: computed anew")
        return None
    return record


def add_record(folder: Path, key: str, record: Record | None, latest: Iterable[Path]) -> None:
    """Adds the record, if one is given, and the list of segmentations to metrics.json.

    Safe with evaluations of other volumes that end at the same time.
    """
    path = folder / NAME
    if record is None and not path.exists():
        return
    with locked(path, "writing scores", report=say, wait=MOMENT):
        contents = _read(path)
        before = json.dumps(contents)
        if record is not None:
            contents["records"][key] = {**record, "sha256": _hash(record)}
        segmentations = contents.setdefault("segmentations", {})
        segmentations |= {name: files for name, files in map(_listed, latest) if files}
        if json.dumps(contents) != before:
            write_json(path, contents)


def scores_of(record: Any) -> dict[str, dict[str, float]] | None:
    """The scores by volume of a record; None if it holds something else."""
    try:
        return {
            volume: {name: float(value) for name, value in scores.items()}
            for volume, scores in record["volumes"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _listed(segmentation: Path) -> tuple[str, list[dict[str, Any]]]:
    name = latest_name(segmentation.stem)
    latest = segmentation.with_name(f"{name}{segmentation.suffix}")
    return name.removesuffix("_segmentation"), listed(latest)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"format_version": FORMAT_VERSION, "records": {}}
    require_regular(path)
    try:
        contents = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON any more ({error}); move it away") from error
    if not isinstance(contents, Mapping):
        raise UserError(f"{path}: a {type(contents).__name__}, not scores of emseg's; move it away")
    check_format(path, contents)
    for name in ("records", "segmentations"):
        found = contents.get(name, {} if name == "segmentations" else None)
        if not isinstance(found, dict):
            raise UserError(f"{path}: '{name}' is {found!r:.40}, not a mapping; move it away")
    return dict(contents)


def _hash(record: Mapping[str, Any]) -> str:
    content = {name: value for name, value in for_json(record).items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
