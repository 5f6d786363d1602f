"""Decode: from a prediction (C, Z, Y, X) to a segmentation (Z, Y, X)."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.config import build
from emseg.decoding import sweep_of
from emseg.errors import UserError
from emseg.stages.artifacts import FORMAT_VERSION, fingerprint, is_current, known_format
from emseg.stages.runs import say
from emseg.volumes import identity, open_volume, read_attributes, write_volume


@dataclass(frozen=True)
class DecodeJob:
    """All that decoding one prediction takes; plain values, so that it travels to a child process.

    `decoding` is the decoder's leaf, `select` the chosen channels (None: the nearest offsets).
    """

    prediction: Path
    decoding: dict[str, Any]
    select: Sequence[int] | None
    allow: tuple[str, ...] = ()


def decode(job: DecodeJob, *, segmentation: Path, force: bool, verify: bool) -> Path:
    """The path of the segmentation, written unless one with the same fingerprint is there."""
    attributes = read_attributes(job.prediction)
    known_format(job.prediction, attributes)
    wanted = fingerprint("decode", _facts(job, attributes, verify=verify))
    if not force and is_current(segmentation, wanted):
        say(f"{segmentation.name} is up to date: decoding skipped")
        return segmentation
    predicted = open_volume(job.prediction)
    write_volume(
        segmentation,
        labels_of(job),
        axes=predicted.axes,
        voxel_size=predicted.voxel_size,
        offset=predicted.offset,
        attributes={
            "format_version": FORMAT_VERSION,
            "fingerprint": wanted,
            "kind": "segmentation",
            "decoding": job.decoding,
            "select_channel": _channels(job, attributes),
            "emseg": __version__,
        },
    )
    return segmentation


def labels_of(job: DecodeJob) -> np.ndarray:
    """The labels (Z, Y, X) that the job's decoder makes of the chosen channels."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    return decoder(_selected(job), **_asked_facts(decoder, job))


def labels_by_value(
    job: DecodeJob, name: str, values: Sequence[float]
) -> Iterator[tuple[float, np.ndarray]]:
    """(value, labels) for each value of the decoder's swept argument `name`, in one pass."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    swept = sweep_of(decoder.func)
    if swept is None or swept.argument != name:
        raise UserError(f"the decoder {decoder.func.__name__} cannot sweep over '{name}'")
    others = {key: value for key, value in decoder.keywords.items() if key != name}
    facts = _asked_facts(decoder, job)
    yield from swept.function(_selected(job), **{name: values}, **others, **facts)


def nearest_channels(offsets: Sequence[Sequence[int]]) -> list[int]:
    """For each axis the channel with the shortest offset along it, the first of equals."""
    chosen = []
    for axis in range(3):
        along = [
            (abs(offset[axis]), channel)
            for channel, offset in enumerate(offsets)
            if offset[axis] and not any(offset[:axis]) and not any(offset[axis + 1 :])
        ]
        if not along:
            raise UserError(f"the offsets {[list(o) for o in offsets]} have none along axis {axis}")
        chosen.append(min(along)[1])
    return chosen


def _channels(job: DecodeJob, attributes: dict[str, Any]) -> list[int]:
    count = len(attributes["channels"])
    if job.select is None:
        offsets = attributes.get("offsets")
        return nearest_channels(offsets) if offsets else list(range(count))
    outside = [channel for channel in job.select if not 0 <= channel < count]
    if outside:
        raise UserError(
            f"inference.model.select_channel: {outside[0]} is no channel of {job.prediction} "
            f"(0 to {count - 1}: {', '.join(attributes['channels'])})"
        )
    return list(job.select)


def _selected(job: DecodeJob) -> np.ndarray:
    volume = open_volume(job.prediction)
    channels = _channels(job, read_attributes(job.prediction))
    return volume.read((0, 0, 0), volume.shape, channels=channels)


def _asked_facts(decoder: partial, job: DecodeJob) -> dict[str, Any]:
    attributes = read_attributes(job.prediction)
    facts: dict[str, Any] = {
        "edge_side": attributes.get("edge_side"),
        "voxel_size": open_volume(job.prediction).voxel_size,
    }
    if attributes.get("offsets"):
        facts["offsets"] = [tuple(attributes["offsets"][c]) for c in _channels(job, attributes)]
    asked = inspect.signature(decoder.func).parameters
    missing = [name for name in ("offsets", "edge_side") if name in asked and not facts.get(name)]
    if missing:
        raise UserError(
            f"{job.prediction} does not say its {missing[0]}, which the decoder "
            f"{decoder.func.__name__} needs: predict it with emseg"
        )
    return {name: value for name, value in facts.items() if name in asked}


def _facts(job: DecodeJob, attributes: dict[str, Any], *, verify: bool) -> dict[str, Any]:
    # A file that the decoder reads decides the result as much as its arguments do.
    files = {
        key: identity(value, verify=verify)
        for key, value in job.decoding.items()
        if key.endswith("_path") and value is not None
    }
    return {
        "prediction": attributes["fingerprint"],
        "select": _channels(job, attributes),
        "decoding": job.decoding,
        "files": files,
    }
