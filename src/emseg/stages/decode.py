"""Decode: from a prediction (C, Z, Y, X) to a segmentation (Z, Y, X)."""

import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.blocks.grid import grid, slab_shape
from emseg.blocks.memory import GIB, memory_within
from emseg.config import build
from emseg.config.leaves import CODE_READ, NO_RESULT
from emseg.config.schema_inference import Prediction
from emseg.decoding.stored_values import usual_scale
from emseg.decoding.sweep import blockwise_of, sweep_of
from emseg.errors import UserError
from emseg.progress import phase, track
from emseg.stages.artifacts import (
    FORMAT_VERSION,
    check_format,
    contents,
    existing,
    find_current,
    fingerprint,
)
from emseg.stages.channels import asked_facts, calibrated_channels, chosen_channels
from emseg.stages.earlier import earlier_name, make_latest, old_place, tidy
from emseg.stages.elsewhere import agreed, check_elsewhere, open_elsewhere
from emseg.stages.folder_store import FolderStore
from emseg.stages.prediction_attributes import check_attributes
from emseg.stages.runs import say
from emseg.stages.stored import tell_absent
from emseg.volumes import (
    PartialVolume,
    Volume,
    default_chunks,
    identity,
    open_volume,
    read_attributes,
    write_volume,
)
from emseg.volumes.atomic import discard, writing
from emseg.volumes.content import content_now, stored_content
from emseg.volumes.places import check_on_grid

LABEL_BYTES = 4


@dataclass(frozen=True)
class DecodeJob:
    """All that decoding one prediction takes; plain values, so that it travels to a child process.

    `decoding` is the decoder's leaf, `select` the chosen channels or head (None: the nearest
    offsets), `memory` GiB that decoding may take (None: what the machine or its cgroup has),
    `said` what the config says of a prediction made elsewhere, `content` the hash of what the
    prediction holds, where that is not what was written to it.
    """

    prediction: Path
    decoding: dict[str, Any]
    select: Sequence[int] | str | None
    allow: tuple[str, ...] = ()
    memory: float | None = None
    said: Prediction = field(default_factory=Prediction)
    content: str | None = None

    @property
    def memory_bytes(self) -> int:
        return memory_within(self.memory)


def decode(
    job: DecodeJob, *, segmentation: Path, force: bool, verify: bool, keep: int = 10
) -> Path:
    """The path of the segmentation, written unless one with the same fingerprint is there.

    One of another fingerprint that it replaces is kept, as `<name>.<the hash's first digits>`, and
    so are `keep` altogether; a kept one of the wanted fingerprint becomes the latest again.
    """
    name = segmentation.stem
    if not force:
        current = current_segmentation(
            job, folder=segmentation.parent, name=name, verify=verify, tell=say
        )
        if current is not None:
            if current.stem != name:
                say(f"{current.name} is of these settings: it is the latest again")
                current = make_latest(current, name)
            say(f"{current.name} is up to date: decoding skipped")
            return current
    else:
        for older in existing(segmentation.parent, segmentation.stem):
            check_format(older, read_attributes(older))  # what others wrote is not overwritten
        _discard_unfinished(segmentation)
    for file in decoder_files(job.decoding):
        tell_absent(open_volume(file))
    job = as_it_is(job)
    predicted = open_prediction(job)
    check_elsewhere(predicted, _channels(job, predicted))
    attributes = _attributes(job, predicted)
    write = _write_in_blocks if _takes_blocks(job, predicted) else _write_at_once
    try:
        write(job, predicted, segmentation, attributes)
    except UserError:
        # What cannot be finished is not left behind; what was killed goes on from there.
        _discard_unfinished(segmentation)
        raise
    _discard_unfinished(segmentation)
    tidy(segmentation, attributes["fingerprint"], most=keep)
    say(f"segmentation: {segmentation}")
    return segmentation


def as_it_is(job: DecodeJob) -> DecodeJob:
    """The job, with the hash of what its prediction holds where that is not what was written.

    A line says so then. All of the prediction is read for it.
    """
    now = content_now(job.prediction)
    if now is None or now == stored_content(read_attributes(job.prediction)):
        return job
    say(f"{job.prediction} was changed after it was written: it is taken as it is now")
    return replace(job, content=now)


def _attributes(job: DecodeJob, predicted: Volume) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint("decode", decode_facts(job)),
        "contents": contents(_inputs(job, predicted)),
        "kind": "segmentation",
        "decoding": job.decoding,
        "select_channel": _channels(job, predicted),
        "step": predicted.attributes["step"],
        **{k: v for k, v in predicted.attributes.items() if k == "elsewhere"},
        "emseg": __version__,
    }


def _discard_unfinished(segmentation: Path) -> None:
    with writing(segmentation):
        for end in (".blocks", ".partial", ".partial.json"):
            discard(segmentation.with_name(segmentation.name + end))


def current_segmentation(
    job: DecodeJob,
    *,
    folder: Path,
    name: str,
    verify: bool,
    tell: Callable[[str], None] | None = None,
) -> Path | None:
    """The segmentation `name` in the folder where it is what `decode` would make, else None.

    It may be one that is kept beside the latest. `tell` is that of `find_current`.
    """
    wanted = fingerprint("decode", decode_facts(job))
    inputs = _inputs(job, open_prediction(job))
    for one in (name, earlier_name(name, wanted)):
        path = find_current(folder, one, wanted, inputs=inputs, verify=verify, tell=tell)
        if path is not None:
            return path
    return None


def open_prediction(job: DecodeJob) -> Volume:
    """The prediction, lazily; a UserError where it is none, or where what it holds is not known."""
    path, stored = job.prediction, read_attributes(job.prediction)
    if "format_version" not in stored:
        return open_elsewhere(path, job.said, asked=_asked(job))
    check_format(path, stored)
    kind = stored.get("kind")
    if kind != "prediction":
        raise UserError(f"{path} is a {kind}, not a prediction")
    volume = open_volume(path)
    check_attributes(volume)
    agreed(stored, job.said, where=path, scale=usual_scale(volume.dtype))
    return volume


def _asked(job: DecodeJob) -> list[str]:
    """The arguments that the decoder cannot do without."""
    decoder = build(job.decoding, kind="decoding", allow=job.allow)
    parameters = inspect.signature(decoder.func).parameters.values()
    return [one.name for one in parameters if one.default is inspect.Parameter.empty]


def decode_facts(job: DecodeJob) -> dict[str, Any]:
    """All that decides the labels, as plain containers."""
    return {
        **prediction_facts(job),
        "decoding": {k: v for k, v in job.decoding.items() if k not in NO_RESULT["decoding"]},
        "files": [identity(file) for file in decoder_files(job.decoding)],
    }


def prediction_facts(job: DecodeJob) -> dict[str, Any]:
    """All that decides which affinities the decoder gets, as plain containers."""
    predicted = open_prediction(job)
    content = job.content or stored_content(predicted.attributes)
    return {
        "prediction": predicted.attributes["fingerprint"],
        # What older versions predicted has none, and segmentations of it stay current.
        **({} if content is None else {"content": content}),
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
    with phase(f"decoding with {job.decoding['_target_'].rpartition('.')[2]}"):
        labels = labels_of(job)
    write_volume(
        segmentation,
        labels,
        axes=predicted.axes,
        voxel_size=predicted.voxel_size,
        offset=predicted.offset,
        attributes=attributes,
        old_to=old_place(segmentation, attributes["fingerprint"]),
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
        purpose={
            **{key: attributes[key] for key in ("fingerprint", "contents")},
            "block_shape": shape,
        },
    )
    arguments = {**decoder.keywords, **facts, "store": store, "block_shape": shape}
    with phase("decoding in blocks"):
        made = blockwise.function(prediction, **arguments)
        first = next(made)  # after most of the work, which shows its own progress
    count, voxels = len(grid(predicted.shape, shape)), math.prod(shape)
    made = track(chain([first], made), total=count, label="labels", unit="voxel", each=voxels)
    for block, labels in made:
        written = max(partial_volume.done() - block.start[0], 0)
        if written < len(labels):
            partial_volume.write(block.start[0] + written, labels[written:])
    partial_volume.finish(old_to=old_place(segmentation, attributes["fingerprint"]))


def _threads(decoder: partial) -> int:
    if "threads" not in inspect.signature(decoder.func).parameters:
        return 1
    return decoder.keywords.get("threads") or len(os.sched_getaffinity(0))


def _channels(job: DecodeJob, predicted: Volume) -> list[int]:
    return chosen_channels(job.select, predicted.attributes, where=job.prediction)


def decoder_input(job: DecodeJob, decoder: partial) -> tuple[Volume, dict[str, Any]]:
    """The chosen channels, lazily, calibrated where asked, and the facts the decoder asks for."""
    predicted = open_prediction(job)
    channels = _channels(job, predicted)
    for file in decoder_files(job.decoding):
        check_on_grid(file, predicted, what="decoding.affinity_mask_path")
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


def decoder_files(decoding: Mapping[str, Any]) -> list[str]:
    """The files that a decoder reads: they decide the result as much as its arguments do."""
    return [value for key, value in decoding.items() if key.endswith("_path") and value is not None]


def _inputs(job: DecodeJob, predicted: Volume) -> list[str]:
    """The files whose bytes no fingerprint covers: the decoder's, and predictions of others."""
    elsewhere = "elsewhere" in predicted.attributes
    return [*decoder_files(job.decoding), *([predicted.location] if elsewhere else [])]
