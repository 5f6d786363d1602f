"""Decode: from a prediction (C, Z, Y, X) to a segmentation (Z, Y, X)."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.config import build
from emseg.decoding import sweep_of
from emseg.errors import UserError
from emseg.stages.artifacts import (
    FORMAT_VERSION,
    check_format,
    contents,
    find_current,
    fingerprint,
    supersede,
)
from emseg.stages.runs import say
from emseg.volumes import Volume, identity, open_volume, write_volume


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
    predicted = open_prediction(job.prediction)
    if not force:
        folder, name = segmentation.parent, segmentation.stem
        current = current_segmentation(job, folder=folder, name=name, verify=verify)
        if current is not None:
            say(f"{current.name} is up to date: decoding skipped")
            return current
    write_volume(
        segmentation,
        labels_of(job),
        axes=predicted.axes,
        voxel_size=predicted.voxel_size,
        offset=predicted.offset,
        attributes={
            "format_version": FORMAT_VERSION,
            "fingerprint": fingerprint("decode", decode_facts(job)),
            "contents": contents(_files(job)),
            "kind": "segmentation",
            "decoding": job.decoding,
            "select_channel": _channels(job, predicted),
            "step": predicted.attributes["step"],
            "emseg": __version__,
        },
    )
    supersede(segmentation)
    say(f"segmentation: {segmentation}")
    return segmentation


def current_segmentation(job: DecodeJob, *, folder: Path, name: str, verify: bool) -> Path | None:
    """The segmentation `name` in the folder where it is what `decode` would make, else None."""
    wanted = fingerprint("decode", decode_facts(job))
    return find_current(folder, name, wanted, inputs=_files(job), verify=verify)


def open_prediction(path: Path) -> Volume:
    """The prediction, lazily; a UserError when the file is none of emseg's."""
    volume = open_volume(path)
    check_format(path, volume.attributes)
    if volume.attributes["kind"] != "prediction":
        raise UserError(f"{path} is a {volume.attributes['kind']}, not a prediction")
    return volume


def decode_facts(job: DecodeJob) -> dict[str, Any]:
    """All that decides the labels, as plain containers."""
    predicted = open_prediction(job.prediction)
    return {
        "prediction": predicted.attributes["fingerprint"],
        "select": _channels(job, predicted),
        "decoding": job.decoding,
        "files": [identity(file) for file in _files(job)],
    }


def labels_of(job: DecodeJob) -> np.ndarray:
    """The labels (Z, Y, X) that the job's decoder makes of the chosen channels."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    prediction, facts = _data(job, decoder)
    return decoder(prediction, **facts)


def labels_by_value(
    job: DecodeJob, name: str, values: Sequence[float]
) -> Iterator[tuple[float, np.ndarray]]:
    """(value, labels) for each value of the decoder's swept argument `name`, in one pass."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    swept = sweep_of(decoder.func)
    if swept is None or swept.argument != name:
        raise UserError(f"the decoder {decoder.func.__name__} cannot sweep over '{name}'")
    prediction, facts = _data(job, decoder)
    yield from swept.function(prediction, **{**decoder.keywords, **facts, name: values})


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


def chosen_channels(
    select: Sequence[int] | None, facts: Mapping[str, Any], *, where: str | Path
) -> list[int]:
    """The channels for the decoder: those selected, else the nearest offsets, else all.

    `facts` are a prediction's attributes, or what its target says of it; `where` is for errors.
    """
    names, offsets = facts["channels"], facts["offsets"]
    if select is None:
        return nearest_channels(offsets) if offsets else list(range(len(names)))
    outside = [channel for channel in select if channel >= len(names)]
    if outside:
        raise UserError(
            f"inference.model.select_channel: {outside[0]} is no channel of {where} "
            f"(0 to {len(names) - 1}: {', '.join(names)})"
        )
    return list(select)


def asked_facts(
    decoder: partial,
    facts: Mapping[str, Any],
    channels: Sequence[int],
    *,
    voxel_size: Sequence[float] | None,
    where: str | Path,
) -> dict[str, Any]:
    """What the decoder's signature asks for by name, of the chosen channels."""
    offsets = facts["offsets"] and [tuple(facts["offsets"][channel]) for channel in channels]
    known = {"offsets": offsets, "edge_side": facts["edge_side"], "voxel_size": voxel_size}
    parameters = inspect.signature(decoder.func).parameters
    asked = {name: value for name, value in known.items() if name in parameters}
    for name, value in asked.items():
        if value is None and parameters[name].default is inspect.Parameter.empty:
            raise UserError(f"{where} has no {name}, which {decoder.func.__name__} needs")
    return asked


def _channels(job: DecodeJob, predicted: Volume) -> list[int]:
    return chosen_channels(job.select, predicted.attributes, where=job.prediction)


def _data(job: DecodeJob, decoder: partial) -> tuple[np.ndarray, dict[str, Any]]:
    """The chosen channels, and the facts that the decoder asks for."""
    predicted = open_prediction(job.prediction)
    channels = _channels(job, predicted)
    facts = asked_facts(
        decoder,
        predicted.attributes,
        channels,
        voxel_size=predicted.voxel_size,
        where=job.prediction,
    )
    return predicted.read((0, 0, 0), predicted.shape, channels=channels), facts


def _files(job: DecodeJob) -> list[str]:
    # A file that the decoder reads decides the result as much as its arguments do.
    return [
        value for key, value in job.decoding.items() if key.endswith("_path") and value is not None
    ]
