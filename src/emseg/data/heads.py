"""Several named targets of one network."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Annotated

import numpy as np

from emseg.bounds import Rule, at_least, checked
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide

NAMES = Rule(
    "under names of letters, digits and _", lambda heads: all(map(str.isidentifier, heads))
)


class Heads(Target):
    """The channels of several named targets, one after the other.

    Args:
        heads: targets under names of letters, digits and _; None removes one.

    Attributes:
        offsets: with affinities one for each channel, (0, 0, 0) for other channels.
        edge_side: that of all affinities.

    Raises:
        UserError: no targets, an invalid name, two channels with the same name, affinities with
            different edge sides.
    """

    @checked
    def __init__(
        self, *, heads: Annotated[Mapping[str, Target | None], at_least(1), NAMES]
    ) -> None:
        self._targets = {name: target for name, target in heads.items() if target is not None}
        if not self._targets:
            raise UserError("target.heads: all targets are null; leave one at least")
        targets = self._targets.values()
        self.names = tuple(name for target in targets for name in target.names)
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise UserError(f"target.heads has two channels {twice[0]}")
        ends = pairwise(accumulate((t.out_channels for t in targets), initial=0))
        self.heads = dict(zip(self._targets, ends, strict=True))
        self.activations = tuple(
            one for t in targets for one in t.activations or ("sigmoid",) * t.out_channels
        )
        if any(target.offsets for target in targets):
            self.offsets = tuple(
                one for t in targets for one in t.offsets or ((0, 0, 0),) * t.out_channels
            )
            self.edge_side = _common_side(self._targets)
        before, after = (
            np.max([target.context[side] for target in targets], axis=0).tolist() for side in (0, 1)
        )
        self.context = tuple(before), tuple(after)

    def check(self, patch_size: Sequence[int]) -> None:
        for target in self._targets.values():
            target.check(patch_size)

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, masks = zip(*(target(labels) for target in self._targets.values()), strict=True)
        return np.concatenate(values), np.concatenate(masks)


def _common_side(targets: Mapping[str, Target]) -> EdgeSide:
    sides: dict[EdgeSide, str] = {}
    for name, target in targets.items():
        if target.edge_side is not None:
            sides.setdefault(target.edge_side, name)
    if len(sides) > 1:
        (one, first), (other, second), *_ = sides.items()
        raise UserError(
            f"target.heads.{second}.edge_side is '{other}', that of {first} is '{one}': the "
            "affinities of a network have one edge side"
        )
    return next(iter(sides))
