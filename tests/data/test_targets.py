from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from emseg.data.targets import Affinity
from emseg.errors import UserError
from reference.affinity import affinities_by_voxel, eroded_by_voxel

NEAREST = [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


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
        ({"offsets": []}, "empty"),
        ({"offsets": [(0, 0, 0)]}, "no offset"),
        ({"offsets": [(0, 1)]}, "no offset"),
        ({"offsets": [(0, 1, 0.5)]}, "no offset"),
        ({"offsets": ["0-1"]}, "no offset"),
        ({"offsets": [(1, 0, 0), "1-0-0"]}, "twice"),
        ({"offsets": NEAREST, "edge_side": "middle"}, "'source' or 'destination'"),
        ({"offsets": NEAREST, "erosion": (1, 1)}, "erosion"),
        ({"offsets": NEAREST, "erosion": (0, -1, 0)}, "erosion"),
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
    conf = Path(__file__).parents[2] / "conf" / "target" / "aff12.yaml"
    node = yaml.safe_load(conf.read_text())
    assert node.pop("_target_") == "emseg.data.targets.Affinity"
    target = Affinity(**node)
    names = ["x1", "y1", "z1", "z2", "z3", "z4", "x3", "x9", "x27", "y3", "y9", "y27"]
    by_name = {"z": 0, "y": 1, "x": 2}
    for offset, name in zip(target.offsets, names, strict=True):
        assert offset[by_name[name[0]]] == sum(offset) == int(name[1:])
    assert target.edge_side == "destination" and target.erosion == (0, 1, 1)
