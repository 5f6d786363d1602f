import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emseg.errors import UserError
from emseg.training.masking import masking_by
from reference.membrane import membrane_edges

GRID = (8, 10, 10)
STRATEGIES = ("random", "edge", "edge_random_mix")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def steps(seed=0, shape=(2, 1, 16, 20, 20)):
    return torch.rand(shape, generator=generator(seed)) ** 4


def patch_steepness(image, grid):
    edges = membrane_edges(image.numpy(), (0.25, 1, 1), 5.0)
    sizes = [n // g for n, g in zip(edges.shape[1:], grid, strict=True)]
    split = edges.reshape(len(edges), grid[0], sizes[0], grid[1], sizes[1], grid[2], sizes[2])
    return split.mean((2, 4, 6)).reshape(len(edges), -1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_three_quarters_of_800_patches_are_hidden_in_each_sample(strategy):
    mask = masking_by(strategy=strategy)(steps(), GRID, generator())
    assert mask.shape == (2, *GRID) and mask.dtype == torch.bool
    assert mask.sum((1, 2, 3)).tolist() == [600, 600]
    assert not torch.equal(mask[0], mask[1])


@given(ratio=st.floats(0.001, 1), seed=st.integers(0, 100), strategy=st.sampled_from(STRATEGIES))
@settings(deadline=None, max_examples=40)
def test_counts_are_exact(ratio, seed, strategy):
    mask = masking_by(strategy=strategy, ratio=ratio)(steps(seed), (4, 5, 2), generator(seed))
    assert mask.flatten(1).sum(1).tolist() == [max(1, round(40 * ratio))] * 2


def test_half_of_the_mixed_ones_are_the_steepest_and_half_are_not():
    image = steps(1)
    steep = patch_steepness(image, GRID)
    masking = masking_by(strategy="edge_random_mix", noise=0.0)
    masks = [masking(image, GRID, generator(seed)).flatten(1).numpy() for seed in range(40)]
    for sample in range(2):
        steepest = np.argsort(-steep[sample], kind="stable")[:300]
        others = np.setdiff1d(np.arange(800), steepest)
        assert all(mask[sample][steepest].all() for mask in masks)
        # Of the other 500 each time 300, at random.
        share = np.mean([mask[sample][others] for mask in masks], 0)
        assert all(mask[sample][others].sum() == 300 for mask in masks)
        assert share.min() > 0.2 and share.max() < 0.95 and share.std() < 0.12


def test_edge_hides_the_steepest_alone_and_noise_blurs_which():
    image = steps(2)
    steep = patch_steepness(image, GRID)
    sharp = masking_by(strategy="edge", noise=0.0)(image, GRID, generator()).flatten(1).numpy()
    for sample in range(2):
        assert steep[sample][sharp[sample]].min() >= steep[sample][~sharp[sample]].max() - 1e-6
    kept = [
        (
            masking_by(strategy="edge", noise=noise)(image, GRID, generator()).flatten(1).numpy()
            & sharp
        ).sum()
        for noise in (0.025, 0.5, 1e6)
    ]
    assert 1200 > kept[0] > kept[1] > kept[2] > 800
    # Noise counts for less where steepness is raised to a power that spreads it.
    spread = masking_by(strategy="edge", noise=0.5, power=6.0)(image, GRID, generator())
    assert (spread.flatten(1).numpy() & sharp).sum() > kept[1]


def test_random_masks_are_uniform_and_blind_to_the_image():
    masks = [masking_by()(steps(seed), GRID, generator(7)) for seed in (0, 1)]
    assert torch.equal(*masks)
    many = torch.stack([masking_by()(steps(), (2, 2, 5), generator(s)) for s in range(300)])
    share = many.float().mean((0, 1))
    assert float((share - 0.75).abs().max()) < 0.08


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masks_come_from_the_generator_alone(strategy):
    masking, image = masking_by(strategy=strategy), steps(3)
    torch.manual_seed(0)
    first = masking(image, GRID, generator(5))
    torch.manual_seed(1)
    assert torch.equal(masking(image, GRID, generator(5)), first)
    going_on = generator(5)
    masking(image, GRID, going_on)
    assert not torch.equal(masking(image, GRID, going_on), first)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"strategy": "edge_biased"}, "'edge_biased' is called 'edge_random_mix' here"),
        ({"strategy": "membrane"}, "'membrane' is called 'edge_random_mix' here"),
        ({"strategy": "randm"}, "did you mean 'random'"),
        ({"ratio": 0.0}, "ratio=0.0 must be above 0"),
        ({"ratio": 1.1}, "ratio=1.1 must be above 0 and at most 1"),
        ({"noise": 0.1}, "objective.noise is 0.1; strategy 'random' has no use for it"),
        (
            {"strategy": "edge", "fraction": 0.5},
            "objective.fraction is 0.5; strategy 'edge' has no",
        ),
        ({"strategy": "edge", "power": -1.0}, "power=-1.0 must be 0 or more"),
        ({"strategy": "edge_random_mix", "fraction": 1.5}, "fraction=1.5 must be from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(given_, message):
    with pytest.raises(UserError, match=message):
        masking_by(**given_)
