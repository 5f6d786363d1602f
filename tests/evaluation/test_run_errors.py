"""The worst mergers and splits of small skeletons whose errors are plain to see."""

import numpy as np
import pytest

from emseg.evaluation.erl import nerl, node_overlaps
from emseg.evaluation.run_errors import worst_mergers, worst_splits
from emseg.volumes.skeletons import Skeletons


def lines(*lengths):
    """Straight skeletons, nodes 100 nm (10 voxels) apart along x, 50 nm apart from each other."""
    owner = np.repeat(np.arange(len(lengths)), lengths)
    along = np.concatenate([np.arange(length) for length in lengths])
    child = np.flatnonzero(owner[1:] == owner[:-1]) + 1
    voxels = np.stack([0 * along, 5 * owner, 10 * along], axis=1)
    return Skeletons(
        ids=10 * (np.arange(len(lengths)) + 1),
        owner=owner,
        voxels=voxels,
        positions=10.0 * voxels,
        edges=np.stack([child - 1, child], axis=1),
    )


def test_mergers_say_whom_they_join_where_and_what_that_costs():
    three = lines(11, 6, 4)
    # 7 takes the first whole and the second's first node, 9 the rest of it and the third's end.
    segments = np.array([7] * 11 + [7] + [9] * 5 + [3, 3, 9, 9])
    first, second = worst_mergers(segments, three)
    assert (first.segment, first.skeletons, first.nodes) == (7, (10, 20), (11, 1))
    assert first.lost == 1000.0
    assert (first.voxel, first.position) == ((0, 0, 0), (0.0, 0.0, 0.0))
    assert (second.segment, second.skeletons, second.nodes) == (9, (20, 30), (5, 2))
    assert second.lost == 500.0
    assert second.voxel == (0, 5, 20)
    assert worst_mergers(segments, three, n=1) == [first]
    assert [merger.segment for merger in worst_mergers(segments, three, tolerance=1)] == [9]
    assert worst_mergers(segments, three, tolerance=2) == []


def test_splits_are_sorted_by_the_shorter_run_that_they_end():
    two = lines(11, 6)
    segments = np.array([1] * 8 + [2] * 3 + [4, 5, 5, 5, 0, 6])
    first, second = worst_splits(segments, two)
    assert (first.skeleton, first.segments, first.lost) == (10, (1, 2), 200.0)
    assert first.voxels == ((0, 0, 70), (0, 0, 80))
    assert first.positions == ((0.0, 0.0, 700.0), (0.0, 0.0, 800.0))
    assert (second.skeleton, second.segments, second.lost) == (20, (4, 5), 0.0)
    assert worst_splits(segments, two, n=1) == [first]


def test_nothing_is_wrong_with_a_perfect_segmentation_or_with_none():
    two = lines(11, 6)
    for segments in (two.owner + 1, 0 * two.owner):
        assert worst_mergers(segments, two) == worst_splits(segments, two) == []


@pytest.mark.parametrize("tolerance", [0.0, 5.0])
def test_what_mergers_lose_is_what_scores_lose(tolerance):
    rng = np.random.default_rng(0)
    many = lines(*rng.integers(2, 40, 30))
    segments = np.repeat(rng.integers(0, 25, len(many.owner)), 4)[: len(many.owner)]
    everything = worst_mergers(segments, many, n=1000, tolerance=tolerance)
    found = node_overlaps(segments, many)
    lost = found.run[found.lost(tolerance)].sum()
    assert sum(merger.lost for merger in everything) == pytest.approx(lost)
    losses = [merger.lost for merger in everything]
    assert losses == sorted(losses, reverse=True) and len(losses) > 5
    counted = nerl(None, None, skeletons=many, node_segments=segments)
    if tolerance == 0:
        assert sum(len(m.skeletons) for m in everything) == counted["n_non0_mergers"]
    assert len(worst_splits(segments, many, n=1000)) == counted["n_splits"]
