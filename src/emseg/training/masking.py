"""Which patches of an image are hidden from a network that is to predict them."""

from collections.abc import Sequence
from copy import copy
from math import prod

import torch
from torch import Tensor

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


class TokenMasking:
    """Masks `(B, *grid)`, true where a patch is hidden, of images `(B, C, Z, Y, X)`.

    It is called with the images, the `grid` of patches (z, y, x) and a generator of random numbers.
    Each sample has exactly max(1, round(ratio * patches)) hidden. With `strategy` `random` they are
    uniform; with `edge` the steepest, by the patch's mean steepness to the `power`, plus `noise`
    times a uniform number; with `edge_random_mix` a `fraction` of them are the steepest, the rest
    uniform among the others. Null is a strategy's default. Steepness is that of
    `membrane_edges`. (dbMiM.)

    UserErrors: an unknown strategy, a setting that it does not read, values out of range.
    """

    def __init__(
        self,
        *,
        strategy: str = "random",
        ratio: float = 0.75,
        fraction: float | None = None,
        power: float | None = None,
        noise: float | None = None,
    ) -> None:
        given = {"fraction": fraction, "power": power, "noise": noise}
        _check(strategy, ratio, given)
        usual = dict(zip(given, STANDARD[strategy], strict=True))
        values = {key: usual[key] if value is None else value for key, value in given.items()}
        self.ratio = ratio
        self.fraction, self.power, self.noise = values.values()

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

    def at(self, *, ratio: float, fraction: float) -> "TokenMasking":
        """The same masking with another ratio and another fraction of steepest patches."""
        other = copy(self)
        other.ratio, other.fraction = ratio, fraction
        return other

    def _scores(self, image: Tensor, grid: Sequence[int], generator: torch.Generator) -> Tensor:
        edges = membrane_edges(image, axis_weights=EDGE_WEIGHTS, clip=EDGE_CLIP)
        scores = patch_means(edges, grid).flatten(1).pow(self.power)
        return scores + self.noise * _uniform(scores.shape, generator).to(scores.device)


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _highest(values: Tensor, count: int) -> Tensor:
    return values.argsort(dim=1, descending=True, stable=True)[:, :count]


def _check(strategy: str, ratio: float, given: dict[str, float | None]) -> None:
    if strategy in ALIASES:
        raise UserError(f"objective.strategy '{strategy}' is called '{ALIASES[strategy]}' here")
    if strategy not in STANDARD:
        raise unknown_name("masking strategy", strategy, STANDARD, where="objective.strategy")
    if not 0 < ratio <= 1:
        raise UserError(f"objective.ratio is {ratio}; it must be above 0 and at most 1")
    reads = {"random": (), "edge": ("power", "noise"), "edge_random_mix": tuple(given)}[strategy]
    for key, value in given.items():
        if value is not None and key not in reads:
            raise UserError(f"objective.{key} is {value}; strategy '{strategy}' has no use for it")
        if value is not None and value < 0:
            raise UserError(f"objective.{key} is {value}; it must be at least 0")
    if (given["fraction"] or 0) > 1:
        raise UserError(f"objective.fraction is {given['fraction']}; it must be at most 1")
