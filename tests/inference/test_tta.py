import itertools

import numpy as np
import pytest
import torch

from emseg.errors import UserError
from emseg.inference.predict import predict
from emseg.inference.tta import Ensemble, merged_views
from emseg.kernels.symmetry import Symmetry, identity, views

# The SNEMI3D list shortened, and slanted offsets; closed under all 16 symmetries of a stack.
OFFSETS = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (2, 0, 0), (0, 0, 4), (0, 4, 0)]
OFFSETS += [(0, 2, -1), (0, 1, 2), (0, 2, 1), (0, -1, 2)]
FLIPS = views("all", ())
SQUARE = views((1, 2), ((1, 2),))
ALL = views("all", ((1, 2),))
WRONG = -7.0


def labels_of(shape, seed=3):
    """Blocks of ids and background, so that all offsets meet like and unlike voxels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, [-(-n // 3) for n in shape])
    return np.kron(coarse, np.ones((3, 3, 3), int))[tuple(map(slice, shape))]


def true_affinities(labels, edge_side):
    """Values (C, ...) and where the other end is inside, by the coordinates of both ends."""
    sign = -1 if edge_side == "destination" else 1
    here = np.indices(labels.shape)
    size = np.reshape(labels.shape, (3, 1, 1, 1))
    values, inside = [], []
    for offset in OFFSETS:
        there = here + sign * np.reshape(offset, (3, 1, 1, 1))
        inside.append(((there >= 0) & (there < size)).all(axis=0))
        other = labels[tuple(np.clip(there, 0, size - 1))]
        values.append((labels == other) & (labels > 0))
    return np.array(values), np.array(inside)


def oracle(edge_side):
    """A network: the true affinities of its window, and WRONG where an edge leaves it."""

    def net(batch):
        patches = []
        for patch in batch[:, 0].numpy():
            values, inside = true_affinities(patch, edge_side)
            patches.append(np.where(inside, values, WRONG))
        return torch.from_numpy(np.stack(patches).astype(np.float32))

    return net


@pytest.mark.parametrize("edge_side", ["source", "destination"])
@pytest.mark.parametrize("pad", [None, (2, 4, 4)])
@pytest.mark.parametrize(
    "tta",
    [
        None,
        Ensemble(FLIPS),
        Ensemble(SQUARE, "max"),
        Ensemble(ALL),
        Ensemble(ALL, "min"),
    ],
    ids=["none", "8 flips", "8 max", "16", "16 min"],
)
def test_an_oracle_network_gives_the_exact_affinities(tta, pad, edge_side):
    labels = labels_of((9, 18, 21))
    result = predict(
        oracle(edge_side),
        labels,
        channels=len(OFFSETS),
        window_size=(5, 8, 8),
        normalize=lambda array: array.astype(np.float32),
        sw_batch_size=4,
        blending="bump",
        pad=pad,
        activation="none",
        offsets=OFFSETS,
        edge_side=edge_side,
        tta=tta,
    )
    expected, inside = true_affinities(labels, edge_side)
    assert 0.1 < expected[inside].mean() < 0.9
    np.testing.assert_allclose(result[inside], expected[inside], rtol=0, atol=1e-6)


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

    merged = merged_views(
        net, Ensemble(ALL, mode), window=image.shape, offsets=OFFSETS, edge_side=edge_side
    )
    result = merged(torch.from_numpy(image)[None, None])[0].numpy()
    expected = slow_merge(net, image, ALL, mode, edge_side)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_channels_that_are_no_affinity_are_only_turned_back():
    image = np.random.default_rng(1).random((3, 5, 5), dtype=np.float32)
    ramp = np.linspace(0, 1, image.size, dtype=np.float32).reshape(image.shape)

    def net(batch):
        return torch.cat([batch * torch.from_numpy(ramp), -batch], dim=1)

    merged = merged_views(
        net, Ensemble(ALL), window=image.shape, offsets=[(0, 0, 0)] * 2, edge_side="source"
    )
    result = merged(torch.from_numpy(image)[None, None])[0].numpy()
    turned = [view.inverse().apply(view.apply(image) * ramp) for view in ALL]
    np.testing.assert_allclose(result, [np.mean(turned, axis=0), -image], rtol=1e-5)


def test_a_network_that_returns_its_input_does_not_spoil_the_other_views():
    batch = torch.rand((2, 1, 4, 4, 4))
    expected = batch.clone()
    merged = merged_views(
        lambda x: x, Ensemble(ALL), window=(4, 4, 4), offsets=[(0, 0, 0)], edge_side="source"
    )
    torch.testing.assert_close(merged(batch), expected)


def refused(ensemble, window, offsets):
    return merged_views(
        lambda x: x, ensemble, window=window, offsets=offsets, edge_side="destination"
    )


def test_rotations_of_a_window_that_is_not_square_are_refused():
    with pytest.raises(UserError, match=r"rotation90_axes.*\[4, 8, 6\]"):
        refused(Ensemble(SQUARE), (4, 8, 6), OFFSETS)


def test_offsets_that_are_not_closed_are_refused():
    with pytest.raises(UserError, match=r"offset \(0, 0, 9\)"):
        refused(Ensemble(SQUARE), (4, 8, 8), [(0, 0, 1), (0, 1, 0), (0, 0, 9)])


def test_an_unknown_mode_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'mean'"):
        Ensemble(FLIPS, "meen")


@pytest.mark.parametrize("chosen", [(), (Symmetry((0, 1, 2), (True, False, False)),)])
def test_views_begin_with_the_identity(chosen):
    with pytest.raises(UserError, match="identity"):
        Ensemble(chosen)
    assert Ensemble((identity(3), *chosen)).views[1:] == chosen


def test_views_are_closed_under_all_their_combinations():
    assert {a.compose(b) for a, b in itertools.product(ALL, ALL)} == set(ALL)
