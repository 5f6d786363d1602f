"""Decode: from a prediction (C, Z, Y, X) to a segmentation (Z, Y, X)."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from emseg import __version__
from emseg.decoding.decoder import Blockwise
from emseg.errors import UserError
from emseg.progress import phase
from emseg.runs.artifacts import (
    FORMAT_VERSION,
    check_format,
    contents,
    existing,
    find_current,
    fingerprint,
)
from emseg.runs.earlier import earlier_name, make_latest, old_place, tidy
from emseg.runs.run_folder import say
from emseg.stages.absent_chunks import report_absent
from emseg.stages.decode_blocks import LABEL_BYTES, label_share, write_in_blocks
from emseg.stages.decode_job import (
    DecodeJob,
    as_it_is,
    channels_of,
    decode_facts,
    decoder_files,
    decoder_input,
    inputs_of,
    labels_of,
    lacks_graph,
    open_prediction,
)
from emseg.stages.foreign_prediction import check_elsewhere
from emseg.stages.workers import alone
from emseg.volumes import (
    Volume,
    open_volume,
    read_attributes,
    write_volume,
)
from emseg.volumes.atomic import discard, writing
from emseg.volumes.partial import discard_unfinished


def decode(
    job: DecodeJob, *, segmentation: Path, force: bool, verify: bool, keep: int = 10
) -> Path:
    """The path of the segmentation, written unless one with the same fingerprint exists.

    An older one with another fingerprint is renamed to `<name>.<the hash's first digits>`; at most
    `keep` of these remain. If one of them has the wanted fingerprint, it becomes the latest again.
    """
    name = segmentation.stem
    if not force:
        current = current_segmentation(
            job, folder=segmentation.parent, name=name, verify=verify, report=say
        )
        if current is not None and not lacks_graph(job, graph_of(segmentation)):
            if current.stem != name:
                say(f"{current.name} is of these settings: it is the latest again")
                current = make_latest(current, name)
            say(f"{current.name} is up to date: decoding skipped")
            return current
    else:
        for older in existing(segmentation.parent, segmentation.stem):
            check_format(older, read_attributes(older))  # never overwrite foreign files
        _discard_unfinished(segmentation)
    for file in decoder_files(job.decoding):
        report_absent(open_volume(file))
    job = as_it_is(job)
    predicted = open_prediction(job)
    check_elsewhere(predicted, channels_of(job, predicted))
    attributes = _attributes(job, predicted)
    in_blocks = _takes_blocks(job, predicted)
    if in_blocks and job.decoding.get("save_graph"):
        raise UserError(
            "decoding.save_graph: fragments and prediction must fit in half of system.memory"
        )
    write = write_in_blocks if in_blocks else _write_at_once
    try:
        write(job, predicted, segmentation, attributes)
    except UserError:
        # After an error the unfinished file is removed; after a kill it is continued.
        _discard_unfinished(segmentation)
        raise
    _discard_unfinished(segmentation)
    tidy(segmentation, attributes["fingerprint"], most=keep)
    say(f"segmentation: {segmentation}")
    return segmentation


def decode_shard(
    job: DecodeJob, *, segmentation: Path, verify: bool, keep: int = 10
) -> Path | None:
    """The path of the segmentation from the last of the shards, None from the others.

    Each labels its blocks of a prediction larger than memory; one joins them. Smaller ones are
    decoded by the first, for which the others wait.
    """
    assert job.shard is not None
    there = partial(current_segmentation, job, folder=segmentation.parent, verify=verify)
    predicted, shard = open_prediction(job), f"shard {job.shard[0]}/{job.shard[1]}"
    if _takes_blocks(job, predicted) and not there(name=segmentation.stem):
        left = label_share(job, predicted, segmentation, _attributes(job, predicted))
        if left:
            say(f"{shard} is done; others have {left} blocks of {job.prediction.name} to label")
            return None
    with alone(segmentation.with_name(segmentation.stem.removesuffix("_segmentation")), job.shard):
        return decode(job, segmentation=segmentation, force=False, verify=verify, keep=keep)


def _attributes(job: DecodeJob, predicted: Volume) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint("decode", decode_facts(job)),
        "contents": contents(inputs_of(job, predicted)),
        "kind": "segmentation",
        "decoding": job.decoding,
        "select_channel": channels_of(job, predicted),
        "step": predicted.attributes["step"],
        **{k: v for k, v in predicted.attributes.items() if k == "elsewhere"},
        "emseg": __version__,
    }


def _discard_unfinished(segmentation: Path) -> None:
    with writing(segmentation):
        discard(segmentation.with_name(f"{segmentation.name}.blocks"))
        discard_unfinished(segmentation)


def graph_of(segmentation: Path) -> Path:
    """Where `decoding.save_graph` saves what a segmentation is made of."""
    return segmentation.with_name(f"{segmentation.stem}_graph.h5")


def current_segmentation(
    job: DecodeJob,
    *,
    folder: Path,
    name: str,
    verify: bool,
    report: Callable[[str], None] | None = None,
) -> Path | None:
    """The segmentation `name` in the folder if it is what `decode` would make, else None.

    It may be one beside the latest. `report` is as for `find_current`.
    """
    wanted = fingerprint("decode", decode_facts(job))
    inputs = inputs_of(job, open_prediction(job))
    for one in (name, earlier_name(name, wanted)):
        path = find_current(folder, one, wanted, inputs=inputs, verify=verify, report=report)
        if path is not None:
            return path
    return None


def _takes_blocks(job: DecodeJob, predicted: Volume) -> bool:
    """Whether the arrays exceed half of the memory, and the decoder can work in blocks."""
    decoder, prediction, _ = decoder_input(job)
    per_voxel = (prediction.channels or 1) * prediction.dtype.itemsize + LABEL_BYTES
    large = math.prod(predicted.shape) * per_voxel > job.memory_bytes // 2
    return large and isinstance(decoder, Blockwise)


def _write_at_once(
    job: DecodeJob, predicted: Volume, segmentation: Path, attributes: dict[str, Any]
) -> None:
    with phase(f"decoding with {job.decoding['_target_'].rpartition('.')[2]}"):
        labels = labels_of(job, graph_of(segmentation))
    write_volume(
        segmentation,
        labels,
        axes=predicted.axes,
        voxel_size=predicted.voxel_size,
        offset=predicted.offset,
        attributes=attributes,
        old_to=old_place(segmentation, attributes["fingerprint"]),
    )
