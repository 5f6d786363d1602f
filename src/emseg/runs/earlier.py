"""Segmentations of earlier settings, which stay beside the latest, up to a number per volume."""

import re
from pathlib import Path
from typing import Any

from emseg.runs.artifacts import existing
from emseg.volumes import read_attributes
from emseg.volumes.atomic import discard, writing

# Digits of the fingerprint in the name of a segmentation that is not the latest.
DIGITS = 8
# The attributes that hold the settings of a segmentation.
SETTINGS = ("decoding", "select_channel", "step")


def earlier_name(name: str, fingerprint: str) -> str:
    """The name, without a suffix, of the segmentation `name` when it is no longer the latest."""
    return f"{name}.{fingerprint[:DIGITS]}"


def latest_name(name: str) -> str:
    """The name, without a suffix, of the latest segmentation if `name` is an earlier one."""
    return re.sub(rf"\.[0-9a-f]{{{DIGITS}}}$", "", name)


def old_place(latest: Path, new: str) -> Path | None:
    """Where `latest` goes when one with the fingerprint `new` replaces it; None for nowhere.

    It goes nowhere if it does not exist, has the same fingerprint, or is not from emseg.
    """
    old = read_attributes(latest).get("fingerprint") if latest.exists() else None
    if not isinstance(old, str) or old == new:
        return None
    return latest.with_name(f"{earlier_name(latest.stem, old)}{latest.suffix}")


def make_latest(path: Path, name: str) -> Path:
    """Makes an earlier segmentation the latest, and returns its path.

    What was the latest becomes an earlier one, or is deleted where `old_place` is None.

    Args:
        path: of the earlier one.
        name: of the latest, without a suffix.
    """
    latest = path.with_name(f"{name}{path.suffix}")
    _move_away(latest, read_attributes(path)["fingerprint"], but=None)
    with writing(latest):
        path.rename(latest)
    return latest


def tidy(latest: Path, fingerprint: str, *, most: int) -> None:
    """Deletes earlier segmentations beyond `most`, and any with the latest's fingerprint.

    Those that were replaced first are deleted first. A latest one in the other format becomes an
    earlier one before that.

    Args:
        latest: its path.
        fingerprint: that of the latest.
        most: the number of earlier ones that stay.
    """
    _move_away(latest, fingerprint, but=latest)
    with writing(latest):
        for same in existing(latest.parent, earlier_name(latest.stem, fingerprint)):
            discard(same)
        # Renaming changes ctime.
        found = sorted(earlier(latest), key=lambda path: path.stat().st_ctime_ns)
        for path in found[: max(0, len(found) - most)]:
            discard(path)


def earlier(latest: Path) -> list[Path]:
    """The segmentations of other settings beside the latest."""
    return [
        path
        for path in latest.parent.glob(f"{glob_safe(latest.stem)}.*")
        if path.suffix in (".h5", ".zarr")
        and path.stem != latest.stem
        and latest_name(path.stem) == latest.stem
    ]


def listed(latest: Path) -> list[dict[str, Any]]:
    """The latest and the earlier segmentations of a volume, each with its settings."""
    found = []
    for path in [latest, *sorted(earlier(latest))]:
        stored = read_attributes(path) if path.exists() else {}
        if isinstance(stored.get("fingerprint"), str):
            facts = {name: stored.get(name) for name in ("fingerprint", *SETTINGS)}
            found.append({"file": path.name, **facts})
    return found


def glob_safe(name: str) -> str:
    """The name as a glob pattern that matches only itself."""
    return re.sub(r"([*?[])", r"[\1]", name)


def _move_away(latest: Path, fingerprint: str, *, but: Path | None) -> None:
    with writing(latest):
        for older in existing(latest.parent, latest.stem):
            if older == but:
                continue
            place = old_place(older, fingerprint)
            if place is None:
                discard(older)
            else:
                discard(place)
                older.rename(place)
