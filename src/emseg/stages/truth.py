"""The truth of a volume as metrics take it, read block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from emseg.data.labelled import interpret_ids
from emseg.evaluation import Accumulator, Contingency
from emseg.evaluation.borders import border_mask
from emseg.progress import track
from emseg.stages.sources import Source
from emseg.volumes import Volume, identity

UNKNOWN = -1
# Voxels read together: 64 MB of 32-bit ids.
BLOCK_VOXELS = 1 << 24


def read_truth(
    source: Source, start: Sequence[int] = (0, 0, 0), stop: Sequence[int] | None = None
) -> np.ndarray:
    """The truth of a region, by default of all: -1 where it is unknown or not to be counted.

    That is where it has the `unlabelled` id, where the mask is 0, and within the border mask; ids
    are signed if any of these is set, else as stored, with the `background` id as 0. Borders are
    those of these ids, so with a border mask a region must have whole sections. UserError for ids
    below 0, or of 2^63 or more, that the config does not name.
    """
    assert source.label is not None
    stop = source.label.shape if stop is None else stop
    config, where = source.config, source.label.location
    stored = source.label.read(start, stop)
    ids, unknown_ids = interpret_ids(stored, config.unlabelled, config.background, where=where)
    unknown = [] if unknown_ids is None else [unknown_ids]
    if source.mask is not None:
        unknown.append(source.mask.read(start, stop) == 0)
    borders = source.border_mask
    if borders.mode is not None:
        z = source.label.axes.index("z")
        near = border_mask(np.moveaxis(ids, z, 0), mode=borders.mode, distance=borders.distance)
        unknown.append(np.moveaxis(near, 0, z))
    return _without(ids, unknown) if unknown else ids


def count_overlaps(segmentation: Volume, source: Source) -> Contingency:
    """The contingency table of a segmentation and the source's truth, both read block by block."""
    overlaps, blocks = Accumulator(), [*blocks_of(source)]
    each = int(np.prod(segmentation.shape)) / len(blocks)
    about = {"total": len(blocks), "label": "overlaps", "unit": "voxel", "each": each}
    for start, stop in track(blocks, **about):
        overlaps.add(segmentation.read(start, stop), read_truth(source, start, stop))
    return overlaps.table()


def segments_at(segmentation: Volume, voxels: np.ndarray) -> np.ndarray:
    """The segment (N,) at each of the voxels (N, 3), reading only slabs that contain any."""
    found = np.zeros(len(voxels), segmentation.dtype)
    layer = max(1, int(np.prod(segmentation.shape[1:])))
    slab = voxels[:, 0] // max(1, BLOCK_VOXELS // layer)
    for number in np.unique(slab):
        here = np.flatnonzero(slab == number)
        first, last = voxels[here].min(axis=0), voxels[here].max(axis=0)
        block = segmentation.read(first, last + 1)
        found[here] = block[tuple((voxels[here] - first).T)]
    return found


def truth_facts(source: Source) -> dict[str, Any]:
    """All that determines what `read_truth` returns, and the voxel size."""
    borders = source.border_mask
    return {
        "label": source.label and identity(source.label.location),
        "skeletons": source.config.skeletons and identity(source.config.skeletons),
        "mask": source.mask and identity(source.mask.location),
        "unlabelled": source.config.unlabelled,
        "background": source.config.background,
        "border_mask": None if borders.mode is None else asdict(borders),
        "range": source.config.range and list(source.config.range),
        "range_axis": source.config.range_axis,
        **_part_facts(source),
        "axes": source.image.axes,
        "voxel_size": source.image.voxel_size and list(source.image.voxel_size),
    }


def truth_files(source: Source) -> list[str]:
    """The files of its truth, whose bytes `truth_facts` does not cover."""
    volumes = [volume.location for volume in (source.label, source.mask) if volume is not None]
    return volumes + ([source.config.skeletons] if source.config.skeletons else [])


def _part_facts(source: Source) -> dict[str, Any]:
    """Which voxels of the image have truth, if not all of them."""
    first, stop = source.truth_region
    if (first, stop) == ((0, 0, 0), tuple(source.image.shape)):
        return {}
    return {"first": list(first), "stop": list(stop)}


def _without(ids: np.ndarray, unknown: list[np.ndarray]) -> np.ndarray:
    nowhere = np.logical_or.reduce(unknown)
    # All remaining ids are below 2^63.
    known = np.where(nowhere, 0, ids)
    wide = np.int64 if ids.dtype == np.uint64 else np.promote_types(ids.dtype, np.int8)
    signed = known.astype(wide, copy=False)
    signed[nowhere] = UNKNOWN
    return signed


def blocks_of(source: Source) -> Iterator[tuple[list[int], list[int]]]:
    """The first voxel of each block and one past its last; whole sections if needed."""
    assert source.label is not None
    shape = source.label.shape
    whole = source.border_mask.mode is not None
    axis = source.label.axes.index("z") if whole else 0
    thickness = max(1, BLOCK_VOXELS * shape[axis] // int(np.prod(shape)))
    # Even one layer may be too large.
    rows = shape[1] if whole else max(1, min(shape[1], BLOCK_VOXELS // shape[2]))
    for at in range(0, shape[axis], thickness):
        for row in range(0, shape[1], rows):
            start, stop = [0, row, 0], [shape[0], min(row + rows, shape[1]), shape[2]]
            start[axis], stop[axis] = at, min(at + thickness, shape[axis])
            yield start, stop
