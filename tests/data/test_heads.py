from pathlib import Path

import numpy as np
import pytest
import yaml

from emseg.config import build
from emseg.data.heads import Heads
from emseg.data.skeleton_distance import SkeletonDistance
from emseg.data.targets import Affinity
from emseg.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "target"
NEAR = Affinity(offsets=[(1, 0, 0), (0, 1, 0)], erosion=(0, 1, 1))
FAR = Affinity(offsets=[(0, 0, 3)])
DISTANCE = SkeletonDistance(resolution=(30, 6, 6))


def shipped(name):
    return build(yaml.safe_load((CONF / f"{name}.yaml").read_text()), kind="target")


def test_channels_follow_each_other_under_their_names():
    target = Heads(heads={"near": NEAR, "sdt": DISTANCE, "far": FAR})
    assert target.heads == {"near": (0, 2), "sdt": (2, 3), "far": (3, 4)}
    assert target.offsets == ((1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 0, 3))
    assert target.edge_side == "destination"
    assert target.activations == ("sigmoid", "sigmoid", "tanh", "sigmoid")
    assert target.names == ("1-0-0", "0-1-0", "skeleton-distance", "0-0-3")
    assert target.out_channels == 4
    assert target.context == ((1, 1, 3), (0, 0, 0))
    labels = np.random.default_rng(0).integers(-1, 4, (3, 8, 9)).astype(np.int32)
    values, mask = target(labels)
    assert (values.dtype, mask.dtype) == (np.float32, bool)
    for name, part in (("near", NEAR), ("sdt", DISTANCE), ("far", FAR)):
        channels = slice(*target.heads[name])
        np.testing.assert_array_equal(values[channels], part(labels)[0])
        np.testing.assert_array_equal(mask[channels], part(labels)[1])


def test_affinities_alone_stay_bytes_and_distances_alone_have_no_offsets():
    affinities = Heads(heads={"near": NEAR, "far": FAR})
    assert affinities(np.ones((2, 4, 5), np.int32))[0].dtype == np.uint8
    distances = Heads(heads={"sdt": DISTANCE})
    assert (distances.offsets, distances.edge_side) == (None, None)


def test_a_patch_must_hold_every_offset():
    target = Heads(heads={"sdt": DISTANCE, "far": FAR})
    target.check((1, 1, 4))
    with pytest.raises(UserError, match="leaves every patch"):
        target.check((9, 9, 3))


def test_shipped_heads_are_nine_affinities_by_length_and_a_distance():
    plain, one, four = map(shipped, ("aff9", "aff9_sdt", "aff9_sdt_heads"))
    assert plain.offsets == tuple(
        tuple(length * (axis == at) for axis in range(3))
        for length in (1, 5, 9)
        for at in (2, 1, 0)
    )
    assert one.offsets == four.offsets == (*plain.offsets, (0, 0, 0))
    assert one.activations == four.activations == ("sigmoid",) * 9 + ("tanh",)
    assert one.heads == {"aff": (0, 9), "sdt": (9, 10)}
    assert four.heads == {"aff_r1": (0, 3), "aff_r5": (3, 6), "aff_r9": (6, 9), "sdt": (9, 10)}
    labels = np.random.default_rng(0).integers(0, 3, (10, 12, 12)).astype(np.int32)
    for found, wanted in zip(one(labels), four(labels), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ({}, "heads={} must be 1 or more values"),
        ({"a.b": NEAR}, "must be under names of letters"),
        ({"one": NEAR, "two": Affinity(offsets=[(0, 1, 0)])}, "two channels 0-1-0"),
        (
            {
                "one": NEAR,
                "sdt": DISTANCE,
                "two": Affinity(offsets=[(4, 0, 0)], edge_side="source"),
            },
            r"target.heads.two.edge_side is 'source', that of one is 'destination'",
        ),
    ],
)
def test_impossible_heads_are_refused(heads, message):
    with pytest.raises(UserError, match=message):
        Heads(heads=heads)


def test_head_may_be_taken_away_but_not_the_last() -> None:
    assert Heads(heads={"one": NEAR, "sdt": None}).names == NEAR.names
    with pytest.raises(UserError, match="all targets are null"):
        Heads(heads={"sdt": None})
