"""Policies that learn which patches to hide: ablations that do not help in dbMiM's own tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, log, prod
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from emseg.bounds import Fraction, Rule, checked
from emseg.errors import UserError
from emseg.models.vit import ViTEncoder
from emseg.training.masking import Share, TokenMasking

HIDDEN = 256
SOME = Rule("one number or more", lambda numbers: len(numbers) > 0)
Generators = Sequence[torch.Generator]


@dataclass(frozen=True)
class Samples:
    """Images (B, C, Z, Y, X), the tokens (B, n, C) of their patches on a grid (z, y, x).

    `generators` has one of each sample, on which alone a draw for it depends.
    """

    image: Tensor
    tokens: Tensor
    grid: Sequence[int]
    generators: Generators


@dataclass(frozen=True)
class Choice:
    """A policy's choice for B samples, and what it learns from; all but `mask` per sample.

    Attributes:
        mask: (B, *grid), true where a patch is hidden.
        log_probability: of the hidden patches; 0, without a gradient, if they are not those drawn.
        entropy: of the draw.
        deviation: the expected square of the hidden share minus the wanted one.
        value: the expected reward.
        logged: numbers to be logged.
    """

    mask: Tensor
    log_probability: Tensor
    entropy: Tensor
    deviation: Tensor
    value: Tensor
    logged: dict[str, Tensor] = field(default_factory=dict)

    def loss(
        self, reward: Tensor, *, entropy_weight: float, value_weight: float, ratio_weight: float
    ) -> Tensor:
        """The policy's loss: its gradient is REINFORCE's (Williams 1992).

        The expected reward is the baseline. The cost of a wrong share is a separate term, not part
        of the reward: its expectation is known, and a sample of it would only be noisier.

        Args:
            reward: (B).
            entropy_weight: of minus the entropy.
            value_weight: of the squared error of `value`.
            ratio_weight: of `deviation`.
        """
        advantage = reward - self.value.detach()
        return (
            -(self.log_probability * advantage).mean()
            + value_weight * (self.value - reward).square().mean()
            - entropy_weight * self.entropy.mean()
            + ratio_weight * self.deviation.mean()
        )


class MaskingPolicy(nn.Module):
    """Base of policies: a layer on each token of `net`'s patches, and their mean.

    The reward is predicted from the mean, the context. It hides a share of `least` to `most`.
    """

    # Whether it still chooses, the most likely option, after it has learned.
    chooses_when_frozen: ClassVar[bool]

    def __init__(self, net: ViTEncoder, *, least: float, most: float) -> None:
        super().__init__()
        self.least, self.most = least, most
        self.features = nn.Sequential(nn.Linear(net.pos_embed.shape[-1], HIDDEN), nn.GELU())
        self.value = _zeros(nn.Linear(HIDDEN, 1))

    def choose(self, samples: Samples, masking: TokenMasking, *, likeliest: bool) -> Choice:
        """What to hide of the samples: drawn by their generators, or the most likely choice.

        `masking` has the wanted ratio and the other settings.
        """
        raise NotImplementedError


class PatchPolicy(MaskingPolicy):
    """Hides each patch with its own probability (dbMiM's older decision module, R16).

    Probabilities begin at the wanted ratio. Log-probability and entropy are divided by the number
    of patches.

    Args:
        least, most: limits of the hidden share, 0 < least < most < 1. If less is drawn, the most
            likely patches are hidden in addition, if more, the least likely are shown; such a draw
            gives no gradient.

    Raises:
        UserError: the limits are out of range, or no number of patches lies between them.
    """

    chooses_when_frozen = False

    def __init__(self, net: ViTEncoder, *, least: float = 0.4, most: float = 0.9) -> None:
        if not 0 < least < most < 1:
            raise UserError(
                f"objective.policy: least={least} and most={most} are no 0 < least < most < 1"
            )
        count = prod(net.grid)
        if ceil(least * count) > floor(most * count):
            raise UserError(
                f"objective.policy hides {least} to {most} of {count} patches: no number is that"
            )
        super().__init__(net, least=least, most=most)
        self.patches = _zeros(nn.Linear(2 * HIDDEN, 1))

    def choose(self, samples: Samples, masking: TokenMasking, *, likeliest: bool) -> Choice:
        features, patches = self.features(samples.tokens), prod(samples.grid)
        ratio = masking.ratio
        context = features.mean(1)
        both = torch.cat([features, context[:, None].expand_as(features)], 2)
        logit = self.patches(both)[..., 0].float() + log(ratio / (1 - ratio))
        chance = logit.sigmoid()
        numbers = torch.full_like(chance, 0.5)
        if not likeliest:
            numbers = _uniform(samples.generators, chance)
        drawn = numbers < chance
        count = drawn.sum(1)
        allowed = count.clamp(ceil(self.least * patches), floor(self.most * patches))
        order = (drawn + chance.detach()).argsort(dim=1, descending=True, stable=True)
        first = torch.arange(patches, device=logit.device) < allowed[:, None]
        hidden, shown = logsigmoid(logit), logsigmoid(-logit)
        done = torch.where(drawn, hidden, shown).mean(1)
        variance = (chance * (1 - chance)).sum(1) / patches**2
        mask = torch.zeros_like(drawn).scatter(1, order, first)
        return Choice(
            mask=mask.unflatten(1, tuple(samples.grid)),
            log_probability=done * (count == allowed),
            entropy=-(chance * hidden + (1 - chance) * shown).mean(1),
            deviation=(chance.mean(1) - ratio).square() + variance,
            value=self.value(context)[:, 0].float(),
        )


class MixPolicy(MaskingPolicy):
    """Chooses for each sample how much is hidden, and which fraction at edges (dbMiM, R34, R35).

    Args:
        ratios, fractions: the options for `TokenMasking`, all equally likely at first.
    """

    chooses_when_frozen = True

    @checked
    def __init__(
        self,
        net: ViTEncoder,
        *,
        ratios: Annotated[Sequence[Share], SOME] = (0.625, 0.75, 0.875),
        fractions: Annotated[Sequence[Fraction], SOME] = (0.25, 0.5, 0.75),
    ) -> None:
        super().__init__(net, least=min(ratios), most=max(ratios))
        self.bins = (ratios, fractions)
        self.mix = _zeros(nn.Linear(HIDDEN, len(ratios) + len(fractions)))

    def choose(self, samples: Samples, masking: TokenMasking, *, likeliest: bool) -> Choice:
        context = self.features(samples.tokens).mean(1)
        logits = self.mix(context).float().split([len(bins) for bins in self.bins], 1)
        logs = [each.log_softmax(1) for each in logits]
        ratios, fractions = (logs[0].new_tensor(bins) for bins in self.bins)
        numbers = _uniform(samples.generators, context.new_empty(len(context), 2))
        r, f = (
            log_.argmax(1) if likeliest else _fall(number, log_.detach().exp())
            for number, log_ in zip(numbers.T, logs, strict=True)
        )
        masks = [
            replace(masking, ratio=ratio, fraction=fraction)(image[None], samples.grid, generator)
            for image, ratio, fraction, generator in zip(
                samples.image,
                ratios[r].tolist(),
                fractions[f].tolist(),
                samples.generators,
                strict=True,
            )
        ]
        done = logs[0].gather(1, r[:, None]) + logs[1].gather(1, f[:, None])
        return Choice(
            mask=torch.cat(masks),
            log_probability=done[:, 0],
            entropy=-torch.cat([log_.exp() * log_ for log_ in logs], 1).sum(1),
            deviation=(logs[0].exp() * (ratios - masking.ratio).square()).sum(1),
            value=self.value(context)[:, 0].float(),
            logged={"mask_edge_fraction": fractions[f].mean()},
        )


def _fall(numbers: Tensor, chances: Tensor) -> Tensor:
    """The bin (B) of each row of chances (B, bins) in which its uniform number falls."""
    return (chances.cumsum(1) <= numbers[:, None]).sum(1).clamp(max=chances.shape[1] - 1)


def _uniform(generators: Generators, like: Tensor) -> Tensor:
    """Uniform numbers in the shape of `like`, those of each sample from its generator."""
    rows = [torch.rand(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(rows).to(like.device)


def _zeros(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
