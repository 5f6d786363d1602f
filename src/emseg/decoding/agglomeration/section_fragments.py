"""Watershed fragments of sections, each by itself, for thick sections.

A block that cuts sections computes the fragments of the whole ones and stores only its own part;
the pieces of one fragment are joined again at the blocks' faces.
"""

from collections.abc import Sequence

import numpy as np

from emseg.blocks.grid import Block, Index
from emseg.blocks.seams import face_facts
from emseg.blocks.store import Facts, Store
from emseg.decoding.edges import probabilities
from emseg.kernels.section_watershed import flood_section, number_by_first

# Pixels between the seeds of a section that has no pixel below 0.5.
GRID_SPACING = 12


def region_of(block: Block, shape: Sequence[int]) -> tuple[Index, Index]:
    """Start and stop of the whole sections of a block, and of the one before it."""
    return (max(block.start[0] - 1, 0), 0, 0), (block.stop[0], shape[1], shape[2])


def section_fragments(
    block: Block, arrays: Sequence[np.ndarray], at: np.ndarray, dtype: np.dtype, store: Store
) -> tuple[np.ndarray, Facts]:
    """(labels, facts) of a block: its fragments, and what their numbering needs.

    `arrays` and `at` are `edges_of` the block's `region_of`; all values must be legal.
    """
    before = min(block.start[0], 1)
    _, height, width = arrays[0].shape
    whole = np.empty((block.shape[0], height, width), np.uint32)
    count = 0
    for z, section in enumerate(whole):
        boundary = _boundary(arrays, at, z + before, (height, width), dtype)
        found = flood_section(boundary, GRID_SPACING, section)
        section += np.uint32(count)
        count += found
    labels = store.buffer(block)
    labels[...] = whole[:, block.slices[1], block.slices[2]]
    first, sizes = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    inside = number_by_first(labels, np.zeros(count + 1, np.uint32), first, sizes)
    joined = _joined(block, whole)
    inner = [None if on is None else labels.take(0, axis) for axis, on in enumerate(joined)]
    facts = {"first": first[: inside + 1].copy(), "sizes": sizes[: inside + 1].copy()}
    return labels, facts | face_facts(labels, inner, joined)


def affinities_within(
    arrays: Sequence[np.ndarray], at: np.ndarray, z: int, shape: tuple[int, int], dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Affinities along axis 1 and 2, float32 (Y, X), of section `z` of the region.

    A pair that leads out of the section gets the value of the pair next to it, or 1 if the section
    is one pixel wide. `arrays` and `at` are `edges_of` the region.
    """
    levels = probabilities(dtype)

    def along(axis: int) -> np.ndarray:
        size = shape[axis - 1]
        if size == 1:
            return np.ones(shape, np.float32)
        places = np.maximum(np.arange(size), 1) + at[axis, axis]
        values = arrays[axis][z + at[axis, 0]].take(places, axis - 1)
        return values if levels is None else levels[values]

    return along(1), along(2)


def _boundary(
    arrays: Sequence[np.ndarray], at: np.ndarray, z: int, shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    """1 minus the mean affinity along axes 1 and 2, float32 (Y, X), of section `z`."""
    one, two = affinities_within(arrays, at, z, shape, dtype)
    return np.float32(1) - np.float32(0.5) * (one + two)


def _joined(block: Block, whole: np.ndarray) -> list[np.ndarray | None]:
    """Per axis with a block before it, where the first face continues that block's fragments."""
    (_, y, x), (_, height, width) = block.start, block.stop
    rows, columns = whole[:, :, x:width], whole[:, y:height]
    return [
        np.zeros(block.shape[1:], np.uint8) if block.start[0] else None,
        (rows[:, y - 1] == rows[:, y]).view(np.uint8) if y else None,
        (columns[:, :, x - 1] == columns[:, :, x]).view(np.uint8) if x else None,
    ]
