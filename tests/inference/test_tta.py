import itertools

import numpy as np
import pytest
import torch

from emseg.errors import UserError
from emseg.inference.settings import Ensemble, Settings
from emseg.inference.tta import merged_views
from emseg.kernels.symmetry import Symmetry, identity, views

# The SNEMI3D list shortened, and slanted offsets; closed under all 16 symmetries of a stack.
OFFSETS = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0), (0, 0, 4), (0, 4, 0)]
OFFSETS += [(0, 2, -1), (0, 1, 2), (0, 2, 1), (0, -1, 2)]
SQUARE = views((1, 2), ((1, 2),))
ALL = views("all", ((1, 2),))


def merged(net, ensemble, window, offsets, edge_side="source"):
    settings = Settings(
        window_size=window, offsets=tuple(offsets), edge_side=edge_side, tta=ensemble
    )
    return merged_views(net, settings)


def slow_merge(net, image, chosen, mode, edge_side):
    """Edge by edge: find both ends in each view, and there the channel that joins them."""
    ids = np.arange(image.size).reshape(image.shape)
    sign = -1 if edge_side == "destination" else 1
    votes = {}
    for view in chosen:
        seen = view.apply(image)
        values = net(torch.from_numpy(seen.copy())[None, None])[0].numpy()
        name = view.apply(ids)
        for channel, offset in enumerate(OFFSETS):
            for voxel in np.ndindex(*seen.shape):
                other = tuple(v + sign * o for v, o in zip(voxel, offset, strict=True))
                if all(0 <= v < n for v, n in zip(other, seen.shape, strict=True)):
                    ends = frozenset((name[voxel], name[other]))
                    votes.setdefault(ends, []).append(values[(channel, *voxel)])
    result = net(torch.from_numpy(image)[None, None])[0].numpy().copy()
    merge = {"mean": np.mean, "min": np.min, "max": np.max}[mode]
    for channel, offset in enumerate(OFFSETS):
        for voxel in np.ndindex(*image.shape):
            other = tuple(v + sign * o for v, o in zip(voxel, offset, strict=True))
            if all(0 <= v < n for v, n in zip(other, image.shape, strict=True)):
                found = votes[frozenset((ids[voxel], ids[other]))]
                assert len(found) == len(chosen)
                result[(channel, *voxel)] = merge(found)
    return result


@pytest.mark.parametrize("edge_side", ["source", "destination"])
@pytest.mark.parametrize("mode", ["mean", "min", "max"])
def test_views_merge_edge_by_edge_and_faces_keep_the_value_as_it_lies(mode, edge_side):
    image = np.random.default_rng(1).random((3, 5, 5), dtype=np.float32)
    ramp = torch.linspace(0.5, 2, image.size).reshape(image.shape)

    def net(batch):
        return torch.cat([batch * ramp + channel for channel in range(len(OFFSETS))], dim=1)

    forward = merged(net, Ensemble(ALL, mode), image.shape, OFFSETS, edge_side)
    result = forward(torch.from_numpy(image)[None, None])[0].numpy()
    expected = slow_merge(net, image, ALL, mode, edge_side)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_channels_that_are_no_affinity_are_only_turned_back():
    image = np.random.default_rng(1).random((3, 5, 5), dtype=np.float32)
    ramp = np.linspace(0, 1, image.size, dtype=np.float32).reshape(image.shape)

    def net(batch):
        return torch.cat([batch * torch.from_numpy(ramp), -batch], dim=1)

    forward = merged(net, Ensemble(ALL), image.shape, [(0, 0, 0)] * 2)
    result = forward(torch.from_numpy(image)[None, None])[0].numpy()
    turned = [view.inverse().apply(view.apply(image) * ramp) for view in ALL]
    np.testing.assert_allclose(result, [np.mean(turned, axis=0), -image], rtol=1e-5)


def test_a_network_that_returns_its_input_does_not_spoil_the_other_views():
    batch = torch.rand((2, 1, 4, 4, 4))
    expected = batch.clone()
    forward = merged(lambda x: x, Ensemble(ALL), (4, 4, 4), [(0, 0, 0)])
    torch.testing.assert_close(forward(batch), expected)


@pytest.mark.parametrize(
    ("window", "offsets", "named"),
    [
        ((4, 8, 6), OFFSETS, r"rotation90_axes.*\[4, 8, 6\]"),
        ((4, 8, 8), [(0, 0, 1), (0, 1, 0), (0, 0, 9)], r"offset \(0, 0, 9\)"),
    ],
)
def test_views_that_turn_a_window_or_an_offset_into_another_are_refused(window, offsets, named):
    with pytest.raises(UserError, match=named):
        merged(lambda x: x, Ensemble(SQUARE), window, offsets)


def test_an_unknown_mode_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'mean'"):
        Ensemble(SQUARE, "meen")


@pytest.mark.parametrize("chosen", [(), (Symmetry((0, 1, 2), (True, False, False)),)])
def test_views_begin_with_the_identity(chosen):
    with pytest.raises(UserError, match="identity"):
        Ensemble(chosen)
    assert Ensemble((identity(3), *chosen)).views[1:] == chosen


def test_views_are_closed_under_all_their_combinations():
    assert {a.compose(b) for a, b in itertools.product(ALL, ALL)} == set(ALL)
