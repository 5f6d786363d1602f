"""Policies of masking: against sums over everything that they can draw, and in their phases."""

from functools import partial
from itertools import product

import pytest
import torch
from torch.nn.functional import gelu

from emseg.errors import UserError
from emseg.losses.masked_reconstruction import MaskedReconstruction
from emseg.models.masked_autoencoder import MaskedAutoencoder
from emseg.training import masking_policy
from emseg.training.masked import MaskedPretraining
from emseg.training.masked_by_policy import PolicyPretraining
from emseg.training.masking import masking_by
from emseg.training.masking_policy import MixPolicy, PatchPolicy, Samples
from emseg.training.objective import Parts

GRID = (1, 2, 2)
RATIOS, FRACTIONS = (0.5, 0.75, 1.0), (0.0, 0.5)
ALONE = {"entropy_weight": 0.0, "value_weight": 0.0, "ratio_weight": 0.0}


def tiny_net():
    torch.manual_seed(0)
    return MaskedAutoencoder(
        1, volume_size=(2, 8, 8), patch_size=(2, 4, 4), embed_dim=8, depth=1, num_heads=2
    )


def policy_of(kind):
    """A policy whose weights are no longer those it begins with."""
    torch.manual_seed(1)
    more = {"least": 0.01, "most": 0.99} if kind is PatchPolicy else {}
    if kind is MixPolicy:
        more = {"ratios": RATIOS, "fractions": FRACTIONS}
    policy = kind(tiny_net(), **more)
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    torch.nn.init.zeros_(policy.value.weight)
    torch.nn.init.zeros_(policy.value.bias)
    return policy


def choose(policy, count, *, seed=0, likeliest=False, ratio=0.75, tokens=None):
    generators = [torch.Generator().manual_seed(seed + number) for number in range(count)]
    noise = torch.Generator().manual_seed(99)
    tokens = torch.randn(1, 4, 8, generator=noise) if tokens is None else tokens
    image = torch.rand(1, 1, 2, 8, 8, generator=noise)
    images, tokens = image.expand(count, -1, -1, -1, -1), tokens.expand(count, -1, -1)
    masking = masking_by(strategy="edge_random_mix", ratio=ratio)
    return policy.choose(Samples(images, tokens, GRID, generators), masking, likeliest=likeliest)


def chances(policy, state, ratio=0.75):
    """The probabilities of patches, or of the pairs of bins, from weights alone, in float64."""
    weight = {name: value.double() for name, value in state.items()}
    noise = torch.Generator().manual_seed(99)
    tokens = torch.randn(1, 4, 8, generator=noise)[0].double()
    features = gelu(tokens @ weight["features.0.weight"].T + weight["features.0.bias"])
    context = features.mean(0)
    if isinstance(policy, MixPolicy):
        logits = weight["mix.weight"] @ context + weight["mix.bias"]
        first, second = logits[: len(RATIOS)].softmax(0), logits[len(RATIOS) :].softmax(0)
        return torch.outer(first, second).flatten()
    both = torch.cat([features, context.expand_as(features)], 1)
    odds = (both @ weight["patches.weight"].T + weight["patches.bias"])[:, 0].exp()
    odds = odds * ratio / (1 - ratio)
    return odds / (1 + odds)


def everything(policy, state):
    """What can be drawn, one a row, and how likely each is."""
    chance = chances(policy, state)
    if isinstance(policy, MixPolicy):
        return torch.tensor([*product(RATIOS, FRACTIONS)]), chance
    masks = torch.tensor([*product([False, True], repeat=4)])
    return masks, torch.where(masks, chance, 1 - chance).prod(1)


def draw_each(policy, monkeypatch):
    """The choice in which each of everything is drawn once."""
    if isinstance(policy, MixPolicy):
        state = policy.state_dict()
        joint = chances(policy, state).reshape(len(RATIOS), len(FRACTIONS)).float()
        middles = [p.cumsum(0) - p / 2 for p in (joint.sum(1), joint.sum(0))]
        numbers = torch.tensor([*product(middles[0].tolist(), middles[1].tolist())])
    else:
        masks, _ = everything(policy, policy.state_dict())
        numbers = 1.0 - masks.float()
    monkeypatch.setattr(masking_policy, "_uniform", lambda generators, like: numbers)
    return choose(policy, len(numbers))


@pytest.mark.parametrize("kind", [PatchPolicy, MixPolicy])
def test_the_gradient_is_that_of_the_expected_reward(kind, monkeypatch):
    policy = policy_of(kind)
    state = {name: value.clone() for name, value in policy.state_dict().items()}
    drawn, likely = everything(policy, state)
    reward = torch.randn(len(drawn), generator=torch.Generator().manual_seed(5)).double()
    if kind is PatchPolicy:  # what is not drawn but made to fit teaches nothing
        reward[[0, -1]] = 0
    scale = 4 if kind is PatchPolicy else 1

    def expected(shift):
        moved = {name: value.double() + shift * way[name] for name, value in state.items()}
        return float((everything(policy, moved)[1] * reward).sum()) / scale

    choice = draw_each(policy, monkeypatch)
    weighted = len(drawn) * likely * reward
    loss = choice.loss(weighted.float(), **ALONE)
    loss.backward()
    noise = torch.Generator().manual_seed(7)
    for _ in range(5):
        way = {name: torch.randn(v.shape, generator=noise) for name, v in state.items()}
        found = -sum(
            float((parameter.grad * way[name]).sum())
            for name, parameter in policy.named_parameters()
            if parameter.grad is not None
        )
        wanted = (expected(1e-5) - expected(-1e-5)) / 2e-5
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5)
        assert abs(wanted) > 1e-3


@pytest.mark.parametrize("kind", [PatchPolicy, MixPolicy])
def test_entropy_and_deviation_are_sums_over_all_that_can_be_drawn(kind, monkeypatch):
    policy = policy_of(kind)
    drawn, likely = everything(policy, policy.state_dict())
    choice = draw_each(policy, monkeypatch)
    patch = kind is PatchPolicy
    share = drawn.double().mean(1) if patch else drawn[:, 0]
    entropy = -(likely * likely.log()).sum() / (4 if patch else 1)
    deviation = (likely * (share - 0.75) ** 2).sum()
    for found, wanted in ((choice.entropy, entropy), (choice.deviation, deviation)):
        torch.testing.assert_close(found.double(), wanted.expand(len(drawn)), rtol=1e-5, atol=1e-6)
    logs = likely.log() / (4 if patch else 1)
    if patch:
        assert torch.equal(choice.mask.flatten(1)[1:-1], drawn[1:-1])
        logs[[0, -1]] = 0
    else:
        counts = (4 * drawn[:, 0]).round().long()
        assert torch.equal(choice.mask.flatten(1).sum(1), counts)
        torch.testing.assert_close(choice.logged["mask_edge_fraction"], drawn[:, 1].mean())
    torch.testing.assert_close(choice.log_probability.double(), logs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [PatchPolicy, MixPolicy])
def test_draws_are_as_frequent_as_they_are_likely_and_the_samples_own(kind):
    policy = policy_of(kind)
    choice = choose(policy, 3000)
    if kind is PatchPolicy:
        likely = everything(policy, policy.state_dict())[1]
        kept = choice.mask[choice.log_probability != 0]
        codes = kept.flatten(1).long() @ torch.tensor([8, 4, 2, 1])
        often = codes.bincount(minlength=16) / 3000
        assert float((often - likely)[1:-1].abs().max()) < 0.03
    else:
        likely = chances(policy, policy.state_dict()).reshape(len(RATIOS), len(FRACTIONS)).sum(1)
        counts = choice.mask.flatten(1).sum(1)
        often = torch.stack([(counts == round(4 * ratio)).float().mean() for ratio in RATIOS])
        assert float((often - likely).abs().max()) < 0.03
    torch.rand(3)
    assert torch.equal(choose(policy, 10, seed=20).mask, choice.mask[20:30])
    best = choose(policy, 50, likeliest=True)
    assert len(best.log_probability.unique()) == 1
    assert bool((best.log_probability[0] >= choice.log_probability).any())


@pytest.mark.parametrize(("bias", "count"), [(3.0, 3), (-8.0, 2)])
def test_what_had_to_be_made_to_fit_is_likeliest_and_teaches_nothing(bias, count):
    policy = policy_of(PatchPolicy)
    policy.least, policy.most = 0.4, 0.9
    torch.nn.init.constant_(policy.patches.bias, bias)
    choice = choose(policy, 20)
    likeliest = chances(policy, policy.state_dict()).argsort(descending=True)[:count]
    made = choice.mask.flatten(1)[choice.log_probability == 0]
    assert len(made) > 10 and (choice.mask.flatten(1).sum(1) == count).sum() >= len(made)
    if bias > 0:
        assert made.all(0)[likeliest].all() and not made[:, likeliest].logical_not().any()
    torch.autograd.backward(choice.loss(torch.ones(20), **ALONE))
    taught = choose(policy, 20).log_probability != 0
    assert bool(taught.any()) == bool(float(policy.patches.bias.grad.abs()) > 0)


def test_the_better_bin_is_learned():
    policy = MixPolicy(tiny_net())
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.03)
    values = []
    for step in range(30):
        choice = choose(policy, 16, seed=16 * step)
        reward = (choice.mask.flatten(1).sum(1) == 2).float()  # 0.625 of four patches
        loss = choice.loss(reward, entropy_weight=0.01, value_weight=0.5, ratio_weight=0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(choice.value[0].detach()))
    assert (choose(policy, 50, seed=5000).mask.flatten(1).sum(1) == 2).float().mean() > 0.8
    assert values[0] == 0 and values[-1] > 0.7  # and so is what is to be had


def test_the_better_patch_is_learned_and_a_heavy_ratio_keeps_the_share():
    def taught(ratio_weight):
        policy = PatchPolicy(tiny_net(), least=0.2, most=0.9)
        optimizer = torch.optim.Adam(policy.parameters(), lr=0.03)
        for step in range(30):
            choice = choose(policy, 16, seed=16 * step, ratio=0.5)
            reward = choice.mask[:, 0, 0, 0].float()
            weights = {"entropy_weight": 0.0, "value_weight": 0.5, "ratio_weight": ratio_weight}
            optimizer.zero_grad()
            choice.loss(reward, **weights).backward()
            optimizer.step()
        return chances(policy, policy.state_dict(), ratio=0.5)

    free, kept = taught(0.0), taught(20.0)
    assert free[0] > 0.8
    assert abs(float(kept.mean()) - 0.5) < abs(float(free.mean()) - 0.5)


def module(kind=MixPolicy, **settings):
    weights = {"entropy_weight": 0.01, "value_weight": 0.5, "ratio_weight": 0.25}
    defaults = {
        "policy": kind,
        "policy_lr": 1e-2,
        "policy_weight": 0.05,
        "warmup_steps": 2,
        "freeze_steps": 4,
        **weights,
    }
    return PolicyPretraining(
        Parts(
            net=tiny_net(),
            loss=MaskedReconstruction(),
            make_optimizer=partial(torch.optim.AdamW, lr=1e-3),
        ),
        **defaults | settings,
    )


def batch(count=4):
    image = torch.rand(count, 1, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    return {"image": image, "seed": torch.arange(count)}


@pytest.mark.parametrize("kind", [PatchPolicy, MixPolicy])
def test_the_policy_chooses_in_its_phase_alone(kind, monkeypatch):
    pretraining, samples = module(kind), batch(8)
    for parameter in pretraining.policy.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    fixed = MaskedPretraining.hidden(pretraining, samples)
    for step, phase in ((1, "warm"), (2, "learns"), (3, "learns"), (4, "frozen")):
        monkeypatch.setattr(PolicyPretraining, "global_step", step)
        hidden = pretraining.hidden(samples)
        _, parts = pretraining.losses(samples)
        chosen = pretraining.choice(samples)
        own = phase == "learns" or (phase == "frozen" and kind is MixPolicy)
        assert (chosen is not None) == own and torch.equal(hidden, fixed) == (not own)
        assert ("policy" in parts) == (phase == "learns")
        if phase == "frozen" and own:
            other = samples | {"seed": samples["seed"] + 50}
            same = pretraining.choice(other)
            assert torch.equal(same.log_probability, chosen.log_probability)
        pretraining.eval()
        values = {name: float(value) for name, value in pretraining.losses(samples)[1].items()}
        pretraining.train()
        assert values == {
            name: float(value)
            for name, value in MaskedPretraining.losses(_fixed(pretraining), samples)[1].items()
        }


def _fixed(pretraining):
    plain = MaskedPretraining(
        Parts(net=pretraining.net, loss=pretraining.loss, make_optimizer=torch.optim.SGD)
    )
    plain.masking = pretraining.masking
    return plain


def test_a_reward_is_how_little_the_hidden_patches_of_the_sample_were_mistaken(monkeypatch):
    monkeypatch.setattr(PolicyPretraining, "global_step", 2)
    pretraining, samples = module(), batch()
    pretraining.losses(samples)
    mask = pretraining.hidden(samples)
    error = (pretraining(samples["image"], mask) - samples["image"]) ** 2
    each = error.unfold(3, 4, 4).unfold(4, 4, 4).mean((1, 2, 5, 6))[:, None]
    wanted = torch.stack([one[hid].mean() for one, hid in zip(each, mask, strict=True)]).mean()
    torch.testing.assert_close(pretraining._logged["mask_reward"], -wanted)
    torch.testing.assert_close(pretraining._logged["mask_ratio"], mask.float().mean())


def test_neither_learns_from_the_others_loss(monkeypatch):
    monkeypatch.setattr(PolicyPretraining, "global_step", 2)
    pretraining, samples = module(), batch()
    choice = pretraining.choice(samples)
    choice.loss(torch.arange(4.0), **pretraining.weights).backward()
    assert all(parameter.grad is None for parameter in pretraining.net.parameters())
    grads = [torch.autograd.grad(pretraining.losses(samples)[0], [*pretraining.net.parameters()])]
    mask = choice.mask
    total, _ = pretraining.loss(pretraining(samples["image"], mask), samples["image"], mask)
    grads.append(torch.autograd.grad(total, [*pretraining.net.parameters()]))
    torch.testing.assert_close(*grads)


def test_gradients_are_clipped_apart_and_rates_are_their_own():
    pretraining = module()
    policy, net = [*pretraining.policy.parameters()], [*pretraining.net.parameters()]
    for parameter in (*policy, *net):
        parameter.grad = torch.full_like(parameter, 100.0)
    optimizer = pretraining.configure_optimizers()
    pretraining.configure_gradient_clipping(optimizer, gradient_clip_val=0.5)
    for part in (policy, net):
        norm = torch.cat([parameter.grad.flatten() for parameter in part]).norm()
        assert float(norm) == pytest.approx(0.5, rel=1e-3)
    groups = optimizer.param_groups
    assert [group["lr"] for group in groups] == [1e-3, 1e-2]
    assert [len(group["params"]) for group in groups] == [len(net), len(policy)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy_lr": 0.0}, "policy_lr=0.0 must be above 0"),
        ({"entropy_weight": -1.0}, "entropy_weight=-1.0 must be 0 or more"),
        ({"freeze_steps": 2}, "objective.freeze_steps is 2; .* objective.warmup_steps, 2"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must be 0 or more"),
        ({"ratio": 0.5}, "objective.ratio is 0.5; objective.policy hides 0.625 to 0.875"),
        ({"policy": partial(MixPolicy, ratios=[])}, "ratios=.* must be one number or more"),
        ({"policy": partial(MixPolicy, fractions=[2.0])}, "fractions.*2.0 must be from 0 to 1"),
        ({"policy": partial(PatchPolicy, least=0.9)}, "least=0.9 and most=0.9"),
        (
            {"policy": partial(PatchPolicy, least=0.6, most=0.7)},
            "0.6 to 0.7 of 4 patches: no",
        ),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        module(**settings)


def test_a_checkpoint_of_another_policy_is_refused():
    stored = {"state_dict": module(PatchPolicy).state_dict()}
    with pytest.raises(UserError, match=r"objective.policy: .* MixPolicy"):
        module().on_load_checkpoint(stored)
    module(PatchPolicy).on_load_checkpoint(stored)
