"""Which patches of an image are hidden from a network that is to predict them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated

import torch
from torch import Tensor

from emseg.bounds import Fraction, Rule, Weight, checked
from emseg.errors import UserError, unknown_name
from emseg.losses.membrane import membrane_edges, patch_means

# Defaults: fraction of hidden patches that are the steepest, power and noise of steepness.
STANDARD = {
    "random": (0.0, 1.0, 0.0),
    "edge": (1.0, 1.5, 0.025),
    "edge_random_mix": (0.5, 1.25, 0.05),
}
EDGE_WEIGHTS = (0.25, 1.0, 1.0)
EDGE_CLIP = 5.0
# dbMiM's other names for a strategy; its `edge` is one too, with its own fraction.
ALIASES = {"edge_biased": "edge_random_mix", "membrane": "edge_random_mix"}
Share = Annotated[float, Rule("above 0 and at most 1", lambda share: 0 < share <= 1)]


@dataclass(frozen=True)
class TokenMasking:
    """Masks `(B, *grid)`, true where a patch is hidden, of images `(B, C, Z, Y, X)`.

    It is called with the images, the `grid` of patches (z, y, x) and a generator of random numbers.
    Each sample has exactly max(1, round(ratio * patches)) hidden. (dbMiM.)

    Attributes:
        fraction: of the hidden patches that are the steepest; the rest are uniform among the other
            patches.
        power: of a patch's mean steepness (`membrane_edges`).
        noise: times a uniform number, is added to that.
    """

    ratio: float
    fraction: float
    power: float
    noise: float

    def __call__(self, image: Tensor, grid: Sequence[int], generator: torch.Generator) -> Tensor:
        samples, patches = len(image), prod(grid)
        hidden = max(1, round(self.ratio * patches))
        steepest = round(self.fraction * hidden)
        mask = torch.zeros(samples, patches, dtype=torch.bool, device=image.device)
        if steepest:
            mask.scatter_(1, _highest(self._scores(image, grid, generator), steepest), True)
        if steepest < hidden:
            # The same numbers on all devices; patches that are already hidden come last.
            chance = _uniform(mask.shape, generator).to(mask.device).masked_fill(mask, -1)
            mask.scatter_(1, _highest(chance, hidden - steepest), True)
        return mask.unflatten(1, tuple(grid))

    def _scores(self, image: Tensor, grid: Sequence[int], generator: torch.Generator) -> Tensor:
        edges = membrane_edges(image, axis_weights=EDGE_WEIGHTS, clip=EDGE_CLIP)
        scores = patch_means(edges, grid).flatten(1).pow(self.power)
        return scores + self.noise * _uniform(scores.shape, generator).to(scores.device)


@checked
def masking_by(
    *,
    strategy: str = "random",
    ratio: Share = 0.75,
    fraction: Fraction | None = None,
    power: Weight | None = None,
    noise: Weight | None = None,
) -> TokenMasking:
    """The masking of a strategy.

    Args:
        strategy: `random`, `edge` or `edge_random_mix`.
        ratio, fraction, power, noise: see `TokenMasking`; None: the strategy's default.

    Raises:
        UserError: an unknown strategy, a setting that it does not read, values out of range.
    """
    if strategy in ALIASES:
        raise UserError(f"objective.strategy '{strategy}' is called '{ALIASES[strategy]}' here")
    if strategy not in STANDARD:
        raise unknown_name("masking strategy", strategy, STANDARD, where="objective.strategy")
    given = {"fraction": fraction, "power": power, "noise": noise}
    reads = {"random": (), "edge": ("power", "noise"), "edge_random_mix": tuple(given)}[strategy]
    for key, value in given.items():
        if value is not None and key not in reads:
            raise UserError(f"objective.{key} is {value}; strategy '{strategy}' has no use for it")
    usual = dict(zip(given, STANDARD[strategy], strict=True))
    own = {key: value for key, value in given.items() if value is not None}
    return TokenMasking(ratio, **usual | own)


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _highest(values: Tensor, count: int) -> Tensor:
    return values.argsort(dim=1, descending=True, stable=True)[:, :count]
