"""A prediction larger than memory, decoded block by block, by several workers if asked."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from emseg.blocks.executors import Jobs, Place
from emseg.blocks.grid import Block, grid, slab_shape
from emseg.blocks.memory import cores
from emseg.blocks.store import Facts
from emseg.decoding.decoder import Blockwise
from emseg.errors import UserError
from emseg.progress import phase, track
from emseg.runs.earlier import old_place
from emseg.runs.folder_store import FolderStore
from emseg.runs.lock import locked_by, token_of
from emseg.stages.decode_job import DecodeJob, decoder_input
from emseg.stages.workers import done_by_workers, while_locked
from emseg.volumes import PartialVolume, Volume, default_chunks
from emseg.volumes.cells import Cells

LABEL_BYTES = 4
# Blocks of shards are so small that as many fit the memory at a time.
THREADS_OF_SHARD = 4


@dataclass(frozen=True)
class BlockJob:
    """A block to be labelled by another process, while `token` has the lock of `locked`."""

    of: DecodeJob
    block: Block
    store: Path
    purpose: Mapping[str, Any]
    locked: Path
    token: str
    folder: Path


@dataclass(frozen=True)
class _Cut:
    """A prediction cut into blocks: its decoder, and the store of their labels."""

    decoder: Blockwise
    prediction: Volume
    facts: Mapping[str, Any]
    blocks: Sequence[Block]
    store: FolderStore
    purpose: Mapping[str, Any]


def write_in_blocks(
    job: DecodeJob, predicted: Volume, segmentation: Path, attributes: dict[str, Any]
) -> None:
    """Writes the segmentation block by block; finished blocks of a killed decode are reused."""
    cut = _cut(job, predicted, segmentation, attributes)
    shape = cut.blocks[0].shape
    with phase("decoding in blocks"):
        if job.system.executor != "serial" and labels_alone(cut.decoder):
            _label_by_workers(job, cut.blocks, cut, segmentation)
        made = cut.decoder.blocks(cut.prediction, store=cut.store, block_shape=shape, **cut.facts)
        first = next(made)  # comes after most of the work, which shows its own progress
    unfinished = PartialVolume(
        segmentation,
        shape=predicted.shape,
        dtype=first[1].dtype,
        chunks=default_chunks(predicted.shape),
        axes=predicted.axes,
        voxel_size=predicted.voxel_size,
        offset=predicted.offset,
        attributes=attributes,
    )
    made = chain([first], made)
    for block, labels in _shown(made, total=len(cut.blocks), voxels=shape, label="labels"):
        (begin, end), *area = zip(block.start, block.stop, strict=True)
        row = begin - begin % unfinished.cells.size[0]
        for first, stop in unfinished.missing(row, end, tuple(area)):
            part = labels[max(first - begin, 0) : stop - begin]
            unfinished.write(max(first, begin), part, tuple(area))
    unfinished.finish(old_to=old_place(segmentation, attributes["fingerprint"]))


def label_share(
    job: DecodeJob, predicted: Volume, segmentation: Path, attributes: dict[str, Any]
) -> int:
    """Labels the blocks of the job's shard; the number of blocks that others have to label.

    It is 0 too for a decoder whose blocks need each other.

    Raises:
        UserError: `system.memory` is not set, which decides the blocks.
    """
    assert job.shard is not None
    if job.memory is None:
        raise UserError("--shard: set system.memory (GiB), so that all shards cut the same blocks")
    cut, (number, count) = _cut(job, predicted, segmentation, attributes), job.shard
    if not labels_alone(cut.decoder):
        return 0
    first, stop = (len(cut.blocks) * at // count for at in (number - 1, number))
    own = cut.blocks[first:stop]
    if job.system.executor == "serial":
        missing = [block for block in own if not cut.store.done(block)]
        cut.decoder.label(cut.prediction, missing, store=cut.store, **cut.facts)
    else:
        _label_by_workers(job, own, cut, segmentation)
    return sum(not cut.store.has(block) for block in cut.blocks)


def labels_alone(decoder: Blockwise) -> bool:
    """Whether a block's first labels need no other block."""
    return type(decoder).label is not Blockwise.label


def _cut(job: DecodeJob, predicted: Volume, segmentation: Path, attributes: dict[str, Any]) -> _Cut:
    decoder, prediction, facts = decoder_input(job)
    assert isinstance(decoder, Blockwise)
    threads = getattr(decoder, "threads", 1) or cores()
    shape = block_shape(
        predicted.shape,
        cell=Cells.of(predicted.shape, default_chunks(predicted.shape)).size,
        bytes_per_voxel=prediction.channels * prediction.dtype.itemsize + 3 * LABEL_BYTES,
        memory=job.memory_bytes // 4,
        # The blocks of shards are the same on machines with other cores.
        threads=THREADS_OF_SHARD if job.shard else threads,
    )
    folder = segmentation.with_name(f"{segmentation.name}.blocks")
    purpose = {key: attributes[key] for key in ("fingerprint", "contents")} | {"block_shape": shape}
    store, blocks = FolderStore(folder, purpose=purpose), grid(predicted.shape, shape)
    return _Cut(decoder, prediction, facts, blocks, store, purpose)


def block_shape(
    shape: Sequence[int], *, cell: Sequence[int], bytes_per_voxel: int, memory: int, threads: int
) -> tuple[int, ...]:
    """Slabs as of `slab_shape`, or boxes of cells if not even a row of cells fits the memory."""
    share = {"bytes_per_voxel": bytes_per_voxel, "memory": memory, "threads": threads}
    row = math.prod((cell[0], *shape[1:])) * bytes_per_voxel * threads
    if row <= memory or tuple(cell[1:]) == tuple(shape[1:]):
        return slab_shape(shape, aligned=cell[0], **share)
    thickness, *_ = slab_shape((shape[0], *cell[1:]), aligned=cell[0], **share)
    return (max(thickness, cell[0]), *cell[1:])


def _shown(items: Any, *, total: int, voxels: Sequence[int], label: str) -> Iterator[Any]:
    each = float(np.prod(voxels))
    return track(items, total=total, label=label, unit="voxel", each=each)


def _label_by_workers(
    job: DecodeJob, blocks: Sequence[Block], cut: _Cut, segmentation: Path
) -> None:
    """Labels those of the blocks that are not done into the store, each by a worker."""
    store, name = cut.store, segmentation.stem.removesuffix("_segmentation")
    locked = locked_by(segmentation.parent, name, job.shard)
    missing = [block for block in blocks if not store.done(block)]
    about = (store.folder.parent, cut.purpose, locked, token_of(locked), Path.cwd())
    jobs = Jobs(label_block, [BlockJob(job, block, *about) for block in missing])
    names = [f"block {list(block.start)} to {list(block.stop)}" for block in missing]
    seen = set()

    def finished() -> Iterator[Block]:
        for _ in done_by_workers(jobs, job.system, names):
            new = [one for one in missing if one.index not in seen and store.has(one)]
            seen.update(one.index for one in new)
            yield from new

    shape = cut.blocks[0].shape
    for _ in _shown(finished(), total=len(missing), voxels=shape, label="fragments"):
        pass


def label_block(job: BlockJob, place: Place) -> None:
    """Labels one block into the store; UserError if the run that it is for has ended."""
    with chdir(job.folder):
        decoder, prediction, facts = decoder_input(job.of)
        if hasattr(decoder, "threads"):
            decoder = replace(decoder, threads=place.threads)
        check = while_locked(job.locked, job.token)
        store = _GuardedStore(job.store, purpose=job.purpose, check=check)
        # dask runs a finished job again if its worker dies.
        if store.done(job.block):
            return
        decoder.label(prediction, [job.block], store=store, **facts)


class _GuardedStore(FolderStore):
    """A store into which a worker saves only while its run goes on."""

    def __init__(
        self, folder: Path, *, purpose: Mapping[str, Any], check: Callable[[], None]
    ) -> None:
        super().__init__(folder, purpose=purpose)
        self._check = check

    def save(self, block: Block, labels: np.ndarray, facts: Facts) -> None:
        self._check()
        super().save(block, labels, facts)
