from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data.targets import Affinity
from emseg.errors import UserError
from reference.affinity import (
    affinities_by_voxel,
    dbmim_affinities,
    eroded_by_voxel,
    widened_as_by_dbmim,
)

NEAREST = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


CONF = Path(__file__).parents[2] / "conf" / "target"


@settings(deadline=None, max_examples=40)
@given(
    labels=arrays(np.int32, (3, 4, 5), elements=st.integers(-1, 2)),
    edge_side=st.sampled_from(["source", "destination"]),
    erosion=st.tuples(*[st.integers(0, 1)] * 3),
)
def test_affinities_follow_erosion(
    labels: np.ndarray, edge_side: str, erosion: tuple[int, ...]
) -> None:
    offsets = [*NEAREST, (0, 0, 3), (2, -1, 0)]
    target = Affinity(offsets=offsets, edge_side=edge_side, erosion=erosion)
    values, mask = target(labels)
    expected = affinities_by_voxel(eroded_by_voxel(labels, erosion), offsets, edge_side)
    assert values.dtype == np.uint8 and mask.dtype == bool
    np.testing.assert_array_equal(mask, expected[1])
    np.testing.assert_array_equal(values[mask], expected[0][mask])


def test_offsets_may_be_written_as_strings() -> None:
    target = Affinity(offsets=["1-0-0", [0, 3, 0], "0-0-27", "0--9-0"])
    assert target.offsets == ((1, 0, 0), (0, 3, 0), (0, 0, 27), (0, -9, 0))
    assert target.names == ("1-0-0", "0-3-0", "0-0-27", "0--9-0")
    assert target.out_channels == 4


def test_context_is_how_far_pairs_reach_beyond_their_voxels() -> None:
    offsets = [*NEAREST, (10, 0, 0), (0, -4, 0), "0-3-2"]
    source = Affinity(offsets=offsets, edge_side="source").context
    assert source == ((0, 4, 0), (10, 3, 2))
    assert Affinity(offsets=offsets, edge_side="destination").context == source[::-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"offsets": []}, "offsets=.* must be 1 or more values"),
        ({"offsets": [(0, 0, 0)]}, "no offset"),
        ({"offsets": [(0, 1)]}, "no offset"),
        ({"offsets": [(0, 1, 0.5)]}, "no offset"),
        ({"offsets": ["0-1"]}, "no offset"),
        ({"offsets": [(1, 0, 0), "1-0-0"]}, "twice"),
        ({"offsets": NEAREST, "edge_side": "middle"}, "unknown edge_side 'middle' in Affinity"),
        ({"offsets": NEAREST, "erosion": (1, 1)}, "erosion=.1, 1. must be 3 values"),
        ({"offsets": NEAREST, "erosion": (0, -1, 0)}, "erosion.1.=-1 must be 0 or more"),
    ],
)
def test_impossible_targets_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Affinity(**arguments)


def test_offset_longer_than_the_patch_is_refused() -> None:
    target = Affinity(offsets=[(4, 0, 0), (0, 0, -27)])
    target.check((5, 1, 28))
    for patch in ((4, 9, 64), (16, 9, 27)):
        with pytest.raises(UserError, match="leaves every patch"):
            target.check(patch)


def test_shipped_twelve_offsets_are_in_the_order_of_their_channels() -> None:
    target = shipped("aff12")
    names = ["x1", "y1", "z1", "z2", "z3", "z4", "x3", "x9", "x27", "y3", "y9", "y27"]
    by_name = {"z": 0, "y": 1, "x": 2}
    for offset, name in zip(target.offsets, names, strict=True):
        assert offset[by_name[name[0]]] == sum(offset) == int(name[1:])
    assert target.edge_side == "destination" and target.erosion == (0, 1, 1)


@settings(deadline=None, max_examples=60)
@given(labels=arrays(np.int32, (3, 5, 6), elements=st.integers(0, 3)))
def test_the_target_of_dbmim_is_its_own(labels: np.ndarray) -> None:
    values, mask = shipped("aff3_dbmim")(labels)
    np.testing.assert_array_equal(values, dbmim_affinities(widened_as_by_dbmim(labels)))
    assert mask.all()


def test_erosion_beside_background_is_where_dbmim_widens_less() -> None:
    labels = np.array([[[0, 0, 1, 1, 1, 2, 2]]], np.int32)
    wider = Affinity(offsets=NEAREST, erosion=(0, 1, 1), replicate_boundary=True)
    assert wider(labels)[0][2, 0, 0].tolist() == [0, 0, 0, 0, 0, 0, 0]
    assert shipped("aff3_dbmim")(labels)[0][2, 0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_a_pair_that_leaves_the_patch_is_of_the_voxel_with_itself_where_asked() -> None:
    labels = np.array([[[7, 0, -1, 7]]], np.int32)
    for side, expected in (("destination", [1, 0, 0, 1]), ("source", [1, 0, 0, 1])):
        target = Affinity(offsets=[(0, 0, 3)], edge_side=side, replicate_boundary=True)
        values, mask = target(labels)
        assert values[0, 0, 0].tolist() == expected
        at_ends = [True, True, False, True]
        assert mask[0, 0, 0].tolist() == at_ends


def shipped(name: str) -> Affinity:
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert node.pop("_target_") == "emseg.data.targets.Affinity"
    return Affinity(**node)
