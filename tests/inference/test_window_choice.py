"""Which windows are chosen: sizes that networks take, that cover the volume, in bounded memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from emseg.config import build
from emseg.config.choices import compose_choices, conf_folder, list_groups
from emseg.config.trial_build import without_values
from emseg.errors import UserError
from emseg.inference.settings import Settings
from emseg.inference.windows import (
    GROWTH,
    MOST_VOXELS,
    bytes_per_voxel,
    choose_window,
    least_window,
    overlap_of,
    window_grid,
)

PATCH = (16, 64, 64)
NO_PAD = (0, 0, 0)
MODELS = sorted(list_groups([conf_folder()])["model"] - {"masked_vit"})


def choose(shape, **changes):
    arguments = {"least": PATCH, "stride": (1, 16, 16), "pad": NO_PAD, "overlap": None}
    return choose_window(shape, **arguments | {"fits": lambda size: True} | changes)


def count(shape, size, overlap):
    settings = Settings(window_size=tuple(size), overlap=overlap, offsets=((0, 0, 0),))
    return math.prod(map(len, window_grid(shape, settings).starts))


def test_windows_of_the_small_patch_that_took_hours():
    shape = (256, 1024, 1024)
    size = choose(shape)
    overlap = overlap_of(size, PATCH, None)
    assert count(shape, PATCH, 0.5) == 29791
    assert count(shape, size, overlap) == 1331
    # Neighbours share what they shared before: half a training patch.
    steps = [round(a * (1 - part)) for a, part in zip(size, overlap, strict=True)]
    assert [a - b for a, b in zip(size, steps, strict=True)] == [8, 32, 32]


@given(
    st.tuples(*[st.integers(1, 300)] * 3),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.tuples(*[st.sampled_from([1, 2, 4, 6])] * 3),
    st.sampled_from([None, 0.0, 0.5, (0.5, 0.25, 0.75)]),
    st.sampled_from([(), ((1, 2),), ((0, 1), (1, 2))]),
    st.integers(0, 10**6),
)
def test_a_choice_is_legal_and_no_worse_than_the_patch(shape, parts, stride, overlap, square, most):
    patch = tuple(part * step for part, step in zip(parts, stride, strict=True))
    least = least_window(patch, stride, square)
    arguments = {"least": patch, "stride": stride, "overlap": overlap, "square": square}
    size = choose(shape, **arguments, fits=lambda size: math.prod(size) <= most)
    assert all(a >= b for a, b in zip(size, patch, strict=True))
    assert all(a % step == 0 for a, step in zip(size, stride, strict=True))
    assert all(size[one] == size[other] for one, other in square)
    limit = GROWTH * max(least) if square else None
    for a, b, step in zip(size, least, stride, strict=True):
        assert a <= (limit or GROWTH * b) + math.lcm(*stride, step)
    assert math.prod(size) <= max(math.prod(least), min(most, MOST_VOXELS))
    shared = [overlap_of(one, least, overlap) for one in (size, least)]
    assert count(shape, size, shared[0]) <= count(shape, least, shared[1])
    assert size == choose(shape, **arguments, fits=lambda size: math.prod(size) <= most)


def test_no_room_is_the_patch_and_a_small_volume_no_more_than_it_needs():
    assert choose((256, 1024, 1024), fits=lambda size: False) == PATCH
    assert choose((10, 40, 40)) == PATCH
    assert choose((10, 40, 70)) == (16, 64, 80)
    assert choose((10, 40, 40), pad=(8, 0, 0)) == (26, 64, 64)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_measured_without_memory(model):
    leaf = compose_choices([conf_folder()], {"model": model})["model"]
    with without_values():
        net = build(leaf, kind="model", in_channels=1, out_channels=3, heads=None)
    size = getattr(net, "volume_size", (32, 64, 64))
    # Three channels at full resolution, and 24 at an eighth of the voxels.
    least = 144 if model == "rsunet_iso" else 300
    assert least <= bytes_per_voxel(net.eval(), 1, size) <= 10_000


def test_a_model_that_needs_values_is_refused_in_one_line():
    class Looking(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match=r"inference.window.window_size: .*set it, to \[4, 8, 8\]"):
        bytes_per_voxel(Looking(), 1, (4, 8, 8))
