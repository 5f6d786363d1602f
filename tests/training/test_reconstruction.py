from functools import partial

import torch
from tiny_run import tiny_net
from torch import nn

from emseg.losses.mse import MSE
from emseg.losses.weighted_sum import WeightedSum
from emseg.training.objective import Parts
from emseg.training.reconstruction import Reconstruction


def module(loss=None, net=None):
    torch.manual_seed(0)
    small = nn.Sequential(
        nn.Conv3d(1, 4, (1, 5, 5), padding=(0, 2, 2)), nn.ELU(), nn.Conv3d(4, 1, 1)
    )
    loss = loss or MSE(activation="sigmoid")
    return Reconstruction(
        Parts(net=net or small, loss=loss, make_optimizer=partial(torch.optim.AdamW, lr=1e-2))
    )


def batch(step, count=4):
    rng = torch.Generator().manual_seed(step)
    level = torch.rand(count, 1, 1, 1, 1, generator=rng)
    noise = 0.2 * torch.randn(count, 1, 2, 8, 8, generator=rng)
    return {
        "image": level.expand_as(noise),
        "perturbed": level + noise,
        "seed": torch.arange(count),
    }


def test_the_loss_compares_what_is_made_of_the_perturbed_with_the_clean():
    learner, samples = module(), batch(0)
    total, parts = learner.losses(samples)
    made = torch.sigmoid(learner.net(samples["perturbed"]))
    torch.testing.assert_close(total, ((made - samples["image"]) ** 2).mean())
    assert parts == {} and learner.loss_parts(1) == []
    raw, seen, shown = learner.pictures({name: part[:1] for name, part in samples.items()})
    assert torch.equal(raw, samples["image"][0]) and torch.equal(seen, samples["perturbed"][0])
    torch.testing.assert_close(shown, made[0])


def test_coarser_outputs_of_deep_supervision_are_compared_with_the_clean_too():
    torch.manual_seed(0)
    samples = {name: torch.rand(2, 1, 2, 8, 8) for name in ("image", "perturbed")}
    net = tiny_net(out_channels=1)
    learner = module(net=net)
    total, parts = learner.train().losses(samples)
    fine, coarse = (torch.sigmoid(logits) for logits in net(samples["perturbed"]))
    nearest = samples["image"][..., 1::2, 1::2]
    auxiliary = ((coarse - nearest) ** 2).mean()
    torch.testing.assert_close(parts["auxiliary_1"], auxiliary.detach())
    torch.testing.assert_close(total, ((fine - samples["image"]) ** 2).mean() + 0.5 * auxiliary)


def test_noise_is_learned_away():
    learner = module(WeightedSum(losses={"pixel": MSE(activation="sigmoid")}, weights={"pixel": 1}))
    assert learner.loss_parts(1) == ["pixel"]
    optimizer = learner.configure_optimizers()
    for step in range(60):
        total, parts = learner.losses(batch(step))
        assert [*parts] == ["pixel"]
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    unseen = batch(1000)
    untouched = ((unseen["perturbed"] - unseen["image"]) ** 2).mean()
    assert learner.losses(unseen)[0] < 0.5 * untouched
