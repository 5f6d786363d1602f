"""Decode: from a prediction (C, Z, Y, X) to a segmentation (Z, Y, X)."""

import inspect
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.blocks.grid import slab_shape
from emseg.blocks.memory import GIB, memory_within
from emseg.config import build
from emseg.config.leaves import CODE_READ, NO_RESULT
from emseg.decoding.sweep import blockwise_of, sweep_of
from emseg.errors import UserError
from emseg.stages.artifacts import (
    FORMAT_VERSION,
    check_format,
    contents,
    find_current,
    fingerprint,
    supersede,
)
from emseg.stages.channels import asked_facts, calibrated_channels, chosen_channels
from emseg.stages.folder_store import FolderStore
from emseg.stages.runs import say
from emseg.stages.stored import refuse_hollow, tell_absent
from emseg.volumes import (
    PartialVolume,
    Volume,
    default_chunks,
    identity,
    open_volume,
    write_volume,
)
from emseg.volumes.atomic import discard, writing

LABEL_BYTES = 4


@dataclass(frozen=True)
class DecodeJob:
    """All that decoding one prediction takes; plain values, so that it travels to a child process.

    `decoding` is the decoder's leaf, `select` the chosen channels or head (None: the nearest
    offsets), `memory` GiB that decoding may take (None: what the machine or its cgroup has).
    """

    prediction: Path
    decoding: dict[str, Any]
    select: Sequence[int] | str | None
    allow: tuple[str, ...] = ()
    memory: float | None = None

    @property
    def memory_bytes(self) -> int:
        return memory_within(self.memory)


def decode(job: DecodeJob, *, segmentation: Path, force: bool, verify: bool) -> Path:
    """The path of the segmentation, written unless one with the same fingerprint is there."""
    predicted = open_prediction(job.prediction)
    if not force:
        folder, name = segmentation.parent, segmentation.stem
        current = current_segmentation(job, folder=folder, name=name, verify=verify)
        if current is not None:
            say(f"{current.name} is up to date: decoding skipped")
            return current
    else:
        _discard_unfinished(segmentation)
    for file in _files(job):
        refuse_hollow(open_volume(file), like=predicted)
        tell_absent(open_volume(file))
    write = _write_in_blocks if _takes_blocks(job, predicted) else _write_at_once
    try:
        write(job, predicted, segmentation, _attributes(job, predicted))
    except UserError:
        # What cannot be finished is not left behind; what was killed goes on from there.
        _discard_unfinished(segmentation)
        raise
    _discard_unfinished(segmentation)
    supersede(segmentation)
    say(f"segmentation: {segmentation}")
    return segmentation


def _attributes(job: DecodeJob, predicted: Volume) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint("decode", decode_facts(job)),
        "contents": contents(_files(job)),
        "kind": "segmentation",
        "decoding": job.decoding,
        "select_channel": _channels(job, predicted),
        "step": predicted.attributes["step"],
        "emseg": __version__,
    }


def _discard_unfinished(segmentation: Path) -> None:
    with writing(segmentation):
        for end in (".blocks", ".partial", ".partial.json"):
            discard(segmentation.with_name(segmentation.name + end))


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
    return {
        **prediction_facts(job),
        "decoding": {k: v for k, v in job.decoding.items() if k not in NO_RESULT["decoding"]},
        "files": [identity(file) for file in _files(job)],
    }


def prediction_facts(job: DecodeJob) -> dict[str, Any]:
    """All that decides which affinities the decoder gets, as plain containers."""
    predicted = open_prediction(job.prediction)
    return {
        "prediction": predicted.attributes["fingerprint"],
        "select": _channels(job, predicted),
        "calibration": [job.decoding.get(key) for key in CODE_READ["decoding"]],
    }


def labels_of(job: DecodeJob) -> np.ndarray:
    """The labels (Z, Y, X) that the job's decoder makes of the chosen channels."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    prediction, facts = decoder_input(job, decoder)
    return decoder(prediction[...], **facts)


def labels_by_value(
    job: DecodeJob, name: str, values: Sequence[float]
) -> Iterator[tuple[float, np.ndarray]]:
    """(value, labels) for each value of the decoder's swept argument `name`, in one pass."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    swept = sweep_of(decoder.func)
    if swept is None or swept.argument != name:
        raise UserError(f"the decoder {decoder.func.__name__} cannot sweep over '{name}'")
    prediction, facts = decoder_input(job, decoder)
    yield from swept.function(prediction[...], **{**decoder.keywords, **facts, name: values})


def _takes_blocks(job: DecodeJob, predicted: Volume) -> bool:
    """True for what does not fit half of the memory as arrays, where the decoder can do blocks."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    itemsize = decoder_input(job, decoder)[0].dtype.itemsize
    per_voxel = len(_channels(job, predicted)) * itemsize + LABEL_BYTES
    large = math.prod(predicted.shape) * per_voxel > job.memory_bytes // 2
    return large and blockwise_of(decoder.func) is not None


def _write_at_once(
    job: DecodeJob, predicted: Volume, segmentation: Path, attributes: dict[str, Any]
) -> None:
    write_volume(
        segmentation,
        labels_of(job),
        axes=predicted.axes,
        voxel_size=predicted.voxel_size,
        offset=predicted.offset,
        attributes=attributes,
    )


def _write_in_blocks(
    job: DecodeJob, predicted: Volume, segmentation: Path, attributes: dict[str, Any]
) -> None:
    """The segmentation slab by slab; blocks that a killed decode has finished are not repeated."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    blockwise = blockwise_of(decoder.func)
    assert blockwise is not None
    prediction, facts = decoder_input(job, decoder)
    chunks = default_chunks(predicted.shape)
    shape = slab_shape(
        predicted.shape,
        bytes_per_voxel=prediction.channels * prediction.dtype.itemsize + 3 * LABEL_BYTES,
        memory=job.memory_bytes // 4,
        threads=_threads(decoder),
        aligned=chunks[0],
    )
    partial_volume = PartialVolume(
        segmentation,
        shape=predicted.shape,
        dtype=np.uint32,
        chunks=chunks,
        axes=predicted.axes,
        voxel_size=predicted.voxel_size,
        offset=predicted.offset,
        attributes=attributes,
    )
    store = FolderStore(
        segmentation.with_name(f"{segmentation.name}.blocks"),
        purpose={"fingerprint": attributes["fingerprint"], "block_shape": shape},
    )
    arguments = {**decoder.keywords, **facts, "store": store, "block_shape": shape}
    for block, labels in blockwise.function(prediction, **arguments):
        written = max(partial_volume.done() - block.start[0], 0)
        if written < len(labels):
            partial_volume.write(block.start[0] + written, labels[written:])
    partial_volume.finish()


def _threads(decoder: partial) -> int:
    if "threads" not in inspect.signature(decoder.func).parameters:
        return 1
    return decoder.keywords.get("threads") or len(os.sched_getaffinity(0))


def _channels(job: DecodeJob, predicted: Volume) -> list[int]:
    return chosen_channels(job.select, predicted.attributes, where=job.prediction)


def decoder_input(job: DecodeJob, decoder: partial) -> tuple[Volume, dict[str, Any]]:
    """The chosen channels, lazily, calibrated where asked, and the facts the decoder asks for."""
    predicted = open_prediction(job.prediction)
    channels = _channels(job, predicted)
    facts = asked_facts(
        decoder,
        predicted.attributes,
        channels,
        voxel_size=predicted.voxel_size,
        where=job.prediction,
    )
    if "memory_limit" in decoder.keywords and decoder.keywords["memory_limit"] is None:
        # The prediction and its labels may fill the other half.
        facts["memory_limit"] = job.memory_bytes / GIB / 2
    return calibrated_channels(predicted, channels, job.decoding), facts


def _files(job: DecodeJob) -> list[str]:
    # A file that the decoder reads decides the result as much as its arguments do.
    return [
        value for key, value in job.decoding.items() if key.endswith("_path") and value is not None
    ]
