"""Segments that break off at one section and go on in the next, drawn by hand, and refusals."""

import numpy as np
import pytest

from emseg.blocks.store import MemoryStore
from emseg.decoding.agglomerate import Agglomerate, agglomerate
from emseg.decoding.agglomeration.limits import EdgeLimit
from emseg.decoding.agglomeration.supervoxels import find_supervoxels
from emseg.decoding.edges import axis_edges
from emseg.errors import UserError
from emseg.volumes import from_array

UNITS = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACTS = {"offsets": UNITS, "edge_side": "destination"}

# A volume of one line a section: a letter for each segment, "." for background.
SPLIT = ["aaaa.", "aaaa.", ".bbbb", ".bbbb"]
SHIFTED = ["aaaa......", "...bbbb..."]
BESIDE = ["aaaabbb...", "..ccccc..."]
CROSSED = ["aaaabbbb", "cccccddd"]
BRANCH = ["aaaaaa", "aaaabb"]
GOING_ON = ["aabb", "aaab", "aabb"]


def cut(sections, broken=0.05):
    """Affinities of segments that are joined within, and by `broken` to one another."""
    letters = np.array([[list(section)] for section in sections])
    values = np.full((3, *letters.shape), broken, np.float32)
    for axis in range(3):
        same = np.diff(letters.view(np.uint32).astype(np.int64), axis=axis) == 0
        inside = tuple(slice(int(a == axis), None) for a in range(3))
        values[(axis, *inside)][same] = 0.95
        values[axis][letters == "."] = 0
    return values


def shown(labels):
    names = np.array(list(".abcdefgh"))
    return ["".join(names[section[0]]) for section in labels]


@pytest.mark.parametrize(
    ("sections", "rules", "expected"),
    [
        (SPLIT, {}, SPLIT),
        # 3 pixels of 5.
        (SPLIT, {"iou_threshold": 0.6}, ["aaaa.", "aaaa.", ".aaaa", ".aaaa"]),
        (SPLIT, {"iou_threshold": 0.61}, SPLIT),
        # Where both go on nothing is broken.
        (GOING_ON, {"iou_threshold": 0.01, "one_sided_threshold": 0.01}, GOING_ON),
        (
            SHIFTED,
            {"iou_threshold": 0.5, "singleton_size_ratio": 1.0},
            ["aaaa......", "...aaaa..."],
        ),
        # b and c are alike, but each has been united already.
        (CROSSED, {"iou_threshold": 0.6, "singleton_size_ratio": 0.5}, ["aaaabbbb", "aaaaabbb"]),
        # c overlaps more with b, and a has no other.
        (BESIDE, {"best_buddy": True}, ["aaaabbb...", "..bbbbb..."]),
        # Buddies both end there; a goes on.
        (BRANCH, {"best_buddy": True}, BRANCH),
        (BRANCH, {"one_sided_threshold": 1.0, "one_sided_min_size": 2}, ["aaaaaa", "aaaaaa"]),
        (BRANCH, {"one_sided_threshold": 1.0, "one_sided_min_size": 3}, BRANCH),
        (SHIFTED, {"best_buddy": True, "branch_affinity": 0.05}, ["aaaa......", "...aaaa..."]),
        (SHIFTED, {"best_buddy": True, "branch_affinity": 0.06}, SHIFTED),
        # Small ones are removed when they have had their chance.
        (
            SPLIT,
            {"iou_threshold": 0.5, "dust_remove_size": 9},
            ["aaaa.", "aaaa.", ".aaaa", ".aaaa"],
        ),
    ],
)
def test_what_breaks_at_a_section_goes_on(sections, rules, expected):
    found = agglomerate(cut(sections), thresholds=0.0, aff_threshold=(0.1, 0.9), **rules, **FACTS)
    assert shown(found) == expected


def test_one_section_has_nothing_to_unite_across():
    lone = cut(["aabb"])
    assert agglomerate(lone, thresholds=0.0, **FACTS).max() == 2
    with pytest.raises(UserError, match="one section; decoding.iou_threshold, best_buddy and"):
        agglomerate(lone, best_buddy=True, **FACTS)
    blocks = Agglomerate(iou_threshold=0.5).blocks(
        from_array(lone, axes="czyx"),
        store=MemoryStore((1, 1, 4)),
        block_shape=(1, 1, 2),
        **FACTS,
    )
    with pytest.raises(UserError, match="one section"):
        next(blocks)


def test_tables_of_sections_count_as_memory():
    prediction = np.random.default_rng(0).random((3, 6, 12, 12), np.float32)
    found = find_supervoxels(
        prediction,
        edges=axis_edges(UNITS, "destination"),
        rule=(0.1, 0.999),
        histograms=False,
        store=MemoryStore((6, 12, 12)),
        block_shape=(6, 12, 12),
        threads=1,
        limit=EdgeLimit(2**30),
    )
    little = 145 * len(found.graph.edges) / 2**30
    agglomerate(prediction, memory_limit=little, **FACTS)
    with pytest.raises(UserError, match="decoding.memory_limit"):
        agglomerate(prediction, memory_limit=little, best_buddy=True, **FACTS)
