"""Areas and overlaps of fragments in the sections of a volume (planes along axis 0), by block.

Those of segments, which are unions of fragments, follow from these without reading the volume:

    section 5   | f f f f . g g |    f has 4 pixels in section 5 and 2 in section 6, where it ends;
    section 6   | f f h h h h g |    h begins in section 6; f and h overlap in 2 pixels, g and h
    section 7   | h h h h h h g |    in 1, and there the affinities along axis 0 add up to a sum
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.seams import Numbering, across_faces
from emseg.blocks.store import Facts, Store
from emseg.kernels.section_overlaps import (
    OVERLAP,
    add_pixels,
    count_pixels,
    find_extents,
    find_overlaps,
    overlaps_at_ends,
)

_BEYOND = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Areas:
    """How many pixels labels have in each section, from the first to the last with any.

    Label k has `pixels[starts[k] + z - first[k]]` in section z; int32, `starts` int64 with one
    entry more than labels. 0, background, has none.
    """

    first: np.ndarray
    starts: np.ndarray
    pixels: np.ndarray

    @cached_property
    def last(self) -> np.ndarray:
        """The last section of each label."""
        return (self.first + np.diff(self.starts) - 1).astype(np.int32)

    def of(self, labels: np.ndarray, sections: np.ndarray) -> np.ndarray:
        """The pixels of each of the labels in the section with the same index."""
        return self.pixels[self.starts[labels] + sections - self.first[labels]]


@dataclass(frozen=True, eq=False)
class Sections:
    """The areas of fragments, and their overlaps across two sections, an array of OVERLAP.

    Only overlaps where the lower one ends or the upper one begins, since segments end only where
    fragments do. A pair may have several rows, to be added up; rows are in no order.
    """

    areas: Areas
    overlaps: np.ndarray

    @property
    def nbytes(self) -> int:
        own = self.areas
        return sum(a.nbytes for a in (own.first, own.starts, own.pixels, self.overlaps))


def section_facts(
    block: Block, labels: np.ndarray, edges: np.ndarray, at: np.ndarray, levels: np.ndarray | None
) -> Facts:
    """What the volume's sections need of a block beside `face_facts` and `block_facts`.

    `edges` and `at` are those of `edges_of` for axis 0, `levels` as for `find_edges`.
    """
    start, count = block.start[0], int(labels.max(initial=0))
    first, last = _no_extents(count)
    find_extents(labels, start, first, last)
    areas = _empty_areas(first, last)
    count_pixels(labels, start, areas.first, areas.starts, areas.pixels)
    same = np.arange(count + 1, dtype=np.uint32)
    rows = [
        _at_ends(
            find_overlaps(below, above, edges[z + at[0]], at, levels, start + z - 1), same, areas
        )
        for z, (below, above) in enumerate(zip(labels[:-1], labels[1:], strict=True), start=1)
    ]
    facts = {"first": areas.first, "starts": areas.starts, "pixels": areas.pixels}
    facts["overlaps"] = np.concatenate([np.empty(0, OVERLAP), *rows])
    return {f"section_{name}": array for name, array in facts.items()}


def assemble_sections(
    blocks: Sequence[Block], store: Store, numbering: Numbering, *, levels: np.ndarray | None
) -> Sections:
    """The sections of the volume's fragments, from `section_facts` of its blocks."""
    parts = []
    for block, ids in zip(blocks, numbering.ids, strict=True):
        names = ("section_first", "section_starts", "section_pixels")
        parts.append((ids, Areas(*store.facts(block, names).values())))
    areas = _added_up(parts, numbering.count)
    same = np.arange(numbering.count + 1, dtype=np.uint32)
    rows = []
    for block, below, above, values in across_faces(blocks, store, numbering, axes=(0,)):
        at = np.zeros(3, np.int64)
        found = find_overlaps(below, above, values, at, levels, block.start[0] - 1)
        rows.append(_at_ends(found, same, areas))
    for block, ids in zip(blocks, numbering.ids, strict=True):
        rows.append(
            _at_ends(store.facts(block, ["section_overlaps"])["section_overlaps"], ids, areas)
        )
    return Sections(areas, np.concatenate([np.empty(0, OVERLAP), *rows]))


def overlaps_of(sections: Sections, roots: np.ndarray) -> tuple[np.ndarray, Areas]:
    """(overlaps, areas) of the segments that the fragments' `roots`, int32, define.

    Overlaps of different segments where one ends or begins, sorted by section, `one` and `two`,
    each once. A segment's label is its root.
    """
    areas = _added_up([(roots, sections.areas)], len(roots) - 1)
    rows = _at_ends(sections.overlaps, roots, areas)
    rows = rows[np.lexsort((rows["two"], rows["one"], rows["section"]))]
    changes = [np.diff(rows[name], prepend=-1) != 0 for name in ("section", "one", "two")]
    first = np.flatnonzero(np.logical_or.reduce(changes))
    added = rows[first]
    if len(first):
        for name in ("area", "sum"):
            added[name] = np.add.reduceat(rows[name], first)
    return added, areas


def _no_extents(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(count + 1, _BEYOND, np.int32), np.full(count + 1, -1, np.int32)


def _empty_areas(first: np.ndarray, last: np.ndarray) -> Areas:
    lengths = np.where(last < 0, 0, last - first + 1)
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    # Labels without pixels are never looked up.
    return Areas(
        np.where(last < 0, 0, first).astype(np.int32), starts, np.zeros(starts[-1], np.int32)
    )


def _added_up(parts: Sequence[tuple[np.ndarray, Areas]], count: int) -> Areas:
    """The areas of the labels up to `count`; label k of a part (ids, areas) becomes ids[k]."""
    first, last = _no_extents(count)
    for ids, own in parts:
        there = np.diff(own.starts) > 0
        np.minimum.at(first, ids[there], own.first[there])
        np.maximum.at(last, ids[there], own.last[there])
    areas = _empty_areas(first, last)
    for ids, own in parts:
        add_pixels(ids, own.first, own.starts, own.pixels, areas.first, areas.starts, areas.pixels)
    return areas


def _at_ends(rows: np.ndarray, ids: np.ndarray, areas: Areas) -> np.ndarray:
    # Made by numpy: pages that are not filled take no memory.
    selected = np.empty_like(rows)
    return selected[: overlaps_at_ends(rows, ids, areas.first, areas.last, selected)].copy()
