"""Prediction and decoder together: a network that knows the truth must give it back.

The network is an oracle: its image is the labels, its output their affinities in the window. An
edge that leaves the window it gets wrong, in the way that would do most harm.
"""

from functools import cache

import numpy as np
import pytest
import torch
import yaml
from cc3d import connected_components
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components as pieces

from emseg.config.choices import conf_folder
from emseg.decoding.agglomerate import agglomerate
from emseg.evaluation.adapted_rand import adapted_rand
from emseg.inference.predict import predict
from emseg.inference.settings import Ensemble
from emseg.kernels.symmetry import views

OFFSETS = yaml.safe_load((conf_folder() / "target" / "aff12.yaml").read_text())["offsets"]
NEAREST, LONG = [0, 1, 2], [6, 9, 4]  # both x, y, z
# Windows that end where the image does: what is beyond is never seen without the pad.
SHAPE, WINDOW, PAD = (12, 42, 42), (8, 28, 28), (8, 20, 20)
# Two windows share half of themselves; longer edges may be inside none.
INSIDE = [n for n, offset in enumerate(OFFSETS) if 2 * max(offset) <= min(WINDOW[1:])]
SQUARE = views((1, 2), ((1, 2),))
ALL = views("all", ((1, 2),))
# With each, what a wrong edge has to be to show.
ENSEMBLES = {
    "no views": (None, 1.0),
    "8 mean": (Ensemble(SQUARE), 1.0),
    "8 min": (Ensemble(SQUARE, "min"), 0.0),
    "16 mean": (Ensemble(ALL), 1.0),
    "16 min": (Ensemble(ALL, "min"), 0.0),
}


@cache
def truth():
    """Objects of blocks and background, each object one 6-connected piece."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 4, [n // 3 for n in SHAPE])
    return connected_components(np.kron(coarse, np.ones((3, 3, 3), int)), connectivity=6)


def affinities(labels, edge_side, wrong):
    """(N, 12, Z, Y, X) of labels (N, Z, Y, X), `wrong` where an edge leaves them."""
    size = labels.shape[1:]
    values = np.full((len(labels), len(OFFSETS), *size), wrong, np.float32)
    for channel, offset in enumerate(OFFSETS):
        # The edge's two ends: voxels from the offset on, and those before.
        late = tuple(slice(step, None) for step in offset)
        early = tuple(slice(None, max(n - s, 0)) for n, s in zip(size, offset, strict=True))
        there, here = labels[:, *early], labels[:, *late]
        kept = late if edge_side == "destination" else early
        values[:, channel, *kept] = (here == there) & (here > 0)
    return values


@cache
def predicted(tta, pad, edge_side):
    ensemble, wrong = ENSEMBLES[tta]
    return predict(
        lambda batch: torch.from_numpy(affinities(batch[:, 0].numpy(), edge_side, wrong)),
        truth(),
        channels=len(OFFSETS),
        window_size=WINDOW,
        normalize=lambda array: array.astype(np.float32),
        sw_batch_size=8,
        blending="bump",
        pad=pad,
        activation="none",
        offsets=OFFSETS,
        edge_side=edge_side,
        tta=ensemble,
    )


def expected(tta, pad, edge_side):
    """What is true of each edge on the image's support; with the pad, of mirrored labels too."""
    widths = [(n, n) for n in pad or (0, 0, 0)]
    mirrored = np.pad(truth(), widths, mode="reflect")
    inner = tuple(slice(n, -n or None) for n, _ in widths)
    return affinities(mirrored[None], edge_side, ENSEMBLES[tta][1])[0][:, *inner]


def joined(values, edge_side):
    """Pieces of voxels over edges that are 1, numbered by their first voxel; one voxel is no piece.

    `values` are three channels x, y, z, taken for the edges of neighbouring voxels.
    """
    ids = np.arange(values[0].size).reshape(SHAPE)
    early, late = [], []
    for axis, channel in zip((2, 1, 0), values, strict=True):
        along = [slice(None)] * 3
        along[axis] = slice(1, None) if edge_side == "destination" else slice(None, -1)
        is_one = channel[tuple(along)] == 1
        before, after = (np.delete(ids, end, axis) for end in (-1, 0))
        early.append(before[is_one])
        late.append(after[is_one])
    ends = np.concatenate(early), np.concatenate(late)
    _, piece = pieces(coo_array((np.ones(len(ends[0])), ends), shape=(ids.size, ids.size)))
    alone = np.bincount(piece)[piece] == 1
    return numbered(np.where(alone, 0, piece + 1)).reshape(SHAPE)


def numbered(labels):
    """The labels by their first voxel: 1, 2, …"""
    found, first = np.unique(labels[labels > 0], return_index=True)
    table = np.zeros(labels.max() + 1, int)
    table[found[np.argsort(first)]] = np.arange(1, len(found) + 1)
    return table[labels]


def decoded(prediction, channels, edge_side):
    offsets = [OFFSETS[channel] for channel in channels]
    return agglomerate(
        prediction[channels],
        aff_threshold=(0.1, 0.999),
        offsets=offsets,
        edge_side=edge_side,
        threads=1,
    )


@pytest.mark.parametrize("edge_side", ["source", "destination"])
@pytest.mark.parametrize("pad", [None, PAD], ids=["bare", "padded"])
@pytest.mark.parametrize("tta", ENSEMBLES)
class TestOracle:
    """Of every way to predict: the affinities, and both segmentations made of them."""

    def test_each_edge_is_that_of_the_windows_and_views_that_have_it_inside(
        self, tta, pad, edge_side
    ):
        assert len(INSIDE) == 10
        np.testing.assert_array_equal(
            predicted(tta, pad, edge_side)[INSIDE], expected(tta, pad, edge_side)[INSIDE]
        )

    def test_the_nearest_channels_give_the_truth(self, tta, pad, edge_side):
        labels = decoded(predicted(tta, pad, edge_side), NEAREST, edge_side)
        assert adapted_rand(labels, truth())["adapted_rand"] == 0
        np.testing.assert_array_equal(labels, numbered(truth()))

    def test_the_long_channels_give_the_pieces_over_their_true_edges(self, tta, pad, edge_side):
        labels = decoded(predicted(tta, pad, edge_side), LONG, edge_side)
        wanted = joined(expected(tta, pad, edge_side)[LONG], edge_side)
        assert wanted.max() > 10 and (wanted > 0).mean() > 0.1
        np.testing.assert_array_equal(labels, wanted)
