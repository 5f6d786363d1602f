"""Turns labels of blocks into labels of the volume.

  block A          block B            A's label 2 and B's label 1 touch at a pair of voxels
+-----------+    +-----------+        that is joined: one object. Objects are numbered by
| 1 1 . 2 2 |====| 1 1 . 2 2 |        their first voxel in the volume, so that the numbers
| 1 1 . 2 2 |    | 3 3 . 2 2 |        do not depend on how it was cut.
+-----------+    +-----------+
      A's last plane   B's first plane
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from emseg.blocks.grid import Block
from emseg.blocks.store import Facts, Store
from emseg.errors import UserError
from emseg.kernels.numbering import earliest, unite_pairs

# Labels are used as int32 indices later.
MOST_LABELS = 2**31 - 2


@dataclass(frozen=True)
class Numbering:
    """`ids[i]` turns the labels 0, 1, 2 … of block i into those of the volume, 1 to `count`."""

    ids: list[np.ndarray]
    count: int


def face_facts(
    labels: np.ndarray, joining: Sequence[np.ndarray | None], joined: Sequence[np.ndarray | None]
) -> Facts:
    """What the numbering needs of a labelled block beside `first`, by the names it reads.

    Args:
        labels: (Z, Y, X) of the block.
        joining: per axis a plane of the block's labels; None without a block before it.
        joined: per axis a plane, not 0 where `joining` is joined to the voxel before the block's
            first plane; None as above.
    """
    facts = {f"last{axis}": labels.take(-1, axis) for axis in range(3)}
    for axis, (own, on) in enumerate(zip(joining, joined, strict=True)):
        if own is not None and on is not None:
            facts |= {f"joining{axis}": own, f"joined{axis}": on}
    return facts


def number_blocks(blocks: Sequence[Block], store: Store, shape: Sequence[int]) -> Numbering:
    """The volume's labels for those of its blocks, numbered by their first voxel in C order.

    Args:
        blocks: all of the volume.
        store: holds of each block `face_facts`, and as `first` the place of each label's first
            voxel in the block in C order (with one entry for 0), ascending.
        shape: voxels of the volume.

    Raises:
        UserError: the blocks have more than `MOST_LABELS` labels.
    """
    by_place = {block.index: block for block in blocks}
    counts = [len(store.facts(block, ("first",))["first"]) - 1 for block in blocks]
    offsets = dict(zip((b.index for b in blocks), np.cumsum([0, *counts]).tolist(), strict=False))
    total = sum(counts)
    if total > MOST_LABELS:
        raise UserError(
            f"the blocks hold {total} objects, more than {MOST_LABELS}: decode the volume in "
            "parts, or make more of it background"
        )
    if len(blocks) == 1:
        return Numbering([np.arange(total + 1, dtype=np.uint32)], total)
    parents = np.arange(total + 1, dtype=np.int32)
    first = np.zeros(total + 1, np.int64)
    faces = [f"{name}{axis}" for name in ("joining", "joined") for axis in range(3)]
    for block in blocks:
        own, offset = store.facts(block, ("first", *faces)), offsets[block.index]
        first[offset + 1 : offset + len(own["first"])] = _in_volume(own["first"][1:], block, shape)
        for axis in range(3):
            before = block.before(axis)
            if before is None:
                continue
            on = own[f"joined{axis}"] != 0
            mine = own[f"joining{axis}"][on].astype(np.int64) + offset
            last = store.facts(by_place[before], (f"last{axis}",))[f"last{axis}"]
            theirs = last[on].astype(np.int64) + offsets[before]
            unite_pairs(parents, theirs, mine)
    found = earliest(parents, first)
    roots = np.flatnonzero(found[1:] >= 0) + 1
    ranks = np.zeros(total + 1, np.uint32)
    ranks[roots[np.argsort(found[roots])]] = np.arange(1, len(roots) + 1, dtype=np.uint32)
    ids = []
    for block, count in zip(blocks, counts, strict=True):
        offset = offsets[block.index]
        own_ids = np.zeros(count + 1, np.uint32)
        own_ids[1:] = ranks[parents[offset + 1 : offset + count + 1]]
        ids.append(own_ids)
    return Numbering(ids, len(roots))


def across_faces(
    blocks: Sequence[Block], store: Store, numbering: Numbering, axes: Sequence[int] = (0, 1, 2)
) -> Iterator[tuple[Block, np.ndarray, np.ndarray, np.ndarray]]:
    """The labels on both sides of each face between a block and one before it.

    Args:
        blocks: all of the volume.
        store: holds of each block `face_facts` and, per axis, `values0` to `values2`.
        numbering: of the blocks.
        axes: only faces along these.

    Yields:
        The block behind the face, the volume's labels before and behind it, and the block's
        `values` of that axis.
    """
    ids = dict(zip((block.index for block in blocks), numbering.ids, strict=True))
    by_place = {block.index: block for block in blocks}
    for block in blocks:
        for axis in axes:
            place = block.before(axis)
            if place is not None:
                own = store.facts(block, (f"joining{axis}", f"values{axis}"))
                last = store.facts(by_place[place], (f"last{axis}",))[f"last{axis}"]
                behind = ids[block.index][own[f"joining{axis}"]]
                yield block, ids[place][last], behind, own[f"values{axis}"]


def _in_volume(first: np.ndarray, block: Block, shape: Sequence[int]) -> np.ndarray:
    places = np.unravel_index(first, block.shape)
    moved = tuple(at + start for at, start in zip(places, block.start, strict=True))
    return np.ravel_multi_index(moved, tuple(shape))
