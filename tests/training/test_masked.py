import pytest
import torch
from tiny_run import tiny_net

from emseg.errors import UserError
from emseg.losses.masked_reconstruction import MaskedReconstruction
from emseg.losses.mse import MSE
from emseg.models.masked_autoencoder import MaskedAutoencoder
from emseg.training.masked import GREY, MaskedPretraining
from emseg.training.objective import Parts
from emseg.training.supervised import Supervised

TINY = {
    "volume_size": (4, 16, 16),
    "patch_size": (2, 4, 4),
    "embed_dim": 16,
    "depth": 1,
    "num_heads": 2,
}
MIXED = {"strategy": "edge_random_mix"}


def module(loss=None, **settings):
    torch.manual_seed(0)
    net = MaskedAutoencoder(1, **TINY)
    loss = loss or MaskedReconstruction()
    parts = Parts(net=net, loss=loss, make_optimizer=torch.optim.SGD)
    return MaskedPretraining(parts, **settings)


def batch(count, *, first_seed=0):
    """Stripes across x, which visible patches tell of hidden ones."""
    phase = torch.arange(count).view(-1, 1, 1, 1, 1) / count
    x = torch.arange(16).view(1, 1, 1, 1, -1) / 8
    image = 0.5 + 0.4 * torch.sin(2 * torch.pi * (x + phase))
    seeds = torch.arange(first_seed, first_seed + count)
    return {"image": image.expand(count, 1, 4, 16, 16).clone(), "seed": seeds}


@pytest.mark.parametrize("strategy", ["random", "edge", "edge_random_mix"])
def test_what_is_hidden_depends_on_the_sample_alone(strategy):
    noise = None if strategy == "random" else 0.5
    pretraining, samples = module(strategy=strategy, noise=noise), batch(4)
    together = pretraining.hidden(samples)
    assert together.shape == (4, 2, 4, 4) and (together.sum((1, 2, 3)) == 24).all()
    torch.rand(7)  # numbers that something else has drawn
    for order in ([0, 2], [3, 1]):  # two devices, the second not in order
        own = {name: part[order] for name, part in samples.items()}
        assert torch.equal(pretraining.hidden(own), together[order])
    other = batch(4, first_seed=10)
    assert (pretraining.hidden(other) != together).any()


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ({}, {"strategy": "edge"}),
        ({}, {"ratio": 0.5}),
        (MIXED, {"fraction": 0.9}),
        (MIXED | {"noise": 0.5}, {"power": 8.0}),
        (MIXED, {"noise": 2.0}),
    ],
)
def test_every_setting_changes_what_is_hidden(before, change):
    samples = batch(3)
    samples["image"] += 0.1 * torch.rand(samples["image"].shape).cumsum(3)
    masks = [module(**settings).hidden(samples) for settings in (before, before | change)]
    assert not torch.equal(*masks)


def test_stripes_are_learned():
    pretraining = module()
    optimizer = torch.optim.AdamW(pretraining.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        total, parts = pretraining.losses(batch(4, first_seed=4 * step))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(float(parts["pixel"]))
    assert set(parts) == {"pixel", "structure"} == set(pretraining.loss_parts(1))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_a_plain_masked_autoencoder_has_one_loss():
    plain = module(MaskedReconstruction(membrane_weight=0.0, structure_weight=0.0))
    samples = batch(2)
    total, parts = plain.losses(samples)
    assert [*parts] == plain.loss_parts(1) == ["pixel"]
    hidden = plain.hidden(samples)
    error = (plain(samples["image"], hidden) - samples["image"]) ** 2
    each = error.unfold(2, 2, 2).unfold(3, 4, 4).unfold(4, 4, 4).mean((1, 5, 6, 7))
    torch.testing.assert_close(total, each[hidden].mean())


def test_pictures_are_the_image_with_and_without_what_is_hidden_and_the_guess():
    pretraining, samples = module(), batch(1)
    raw, seen, guess = pretraining.pictures(samples)
    hidden = pretraining.hidden(samples)[0].repeat_interleave(2, 0)
    hidden = hidden.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(raw, samples["image"][0])
    assert (seen[0][hidden] == GREY).all()
    assert torch.equal(seen[0][~hidden], raw[0][~hidden])
    assert guess.shape == raw.shape


@pytest.mark.parametrize(
    ("objective", "net", "loss", "message"),
    [
        (MaskedPretraining, tiny_net, MaskedReconstruction, "model RSUNet .* model=masked_vit"),
        (MaskedPretraining, None, MSE, "loss MSE .* loss=masked_reconstruction"),
        (Supervised, None, MSE, "model MaskedAutoencoder .* objective=masked"),
        (Supervised, tiny_net, MaskedReconstruction, "loss MaskedRec.* objective=masked"),
    ],
)
def test_parts_of_another_objective_are_refused(objective, net, loss, message):
    net = MaskedAutoencoder(1, **TINY) if net is None else net()
    with pytest.raises(UserError, match=f"^objective: {objective.__name__} hides .*{message}"):
        objective(Parts(net=net, loss=loss(), make_optimizer=torch.optim.SGD))
