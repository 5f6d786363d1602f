"""Several named targets of one network."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from emseg.data.targets import Context, Offset, Target
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide


class Heads:
    """The channels of several named targets, one after the other; None removes one.

    `heads` has for each name its channels [first, stop), in order. `activations` says how each
    channel's logit becomes its value: `sigmoid` for a probability, `tanh` for values in [-1, 1].
    With affinities, `offsets` has an offset for each channel, (0, 0, 0) for other channels, and
    `edge_side` is the same for all of them; else both are None.

    UserErrors: no targets, an invalid name, two channels with the same name, affinities with
    different edge sides.
    """

    def __init__(self, *, heads: Mapping[str, Target | None]) -> None:
        if not heads:
            raise UserError("target.heads is empty; name at least one target")
        for name in heads:
            if not name.isidentifier():
                raise UserError(f"target.heads: '{name}' is no name (letters, digits and _)")
        self._targets = {name: target for name, target in heads.items() if target is not None}
        if not self._targets:
            raise UserError("target.heads: all targets are null; leave one at least")
        targets = self._targets.values()
        self.names = tuple(name for target in targets for name in target.names)
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise UserError(f"target.heads has two channels {twice[0]}")
        self.out_channels = len(self.names)
        bounds = pairwise(accumulate((t.out_channels for t in targets), initial=0))
        self.heads: dict[str, tuple[int, int]] = dict(zip(self._targets, bounds, strict=True))
        self.activations = tuple(one for target in targets for one in activations_of(target))
        self.offsets: tuple[Offset, ...] | None = None
        self.edge_side: EdgeSide | None = None
        if any(getattr(target, "offsets", None) for target in targets):
            self.offsets = tuple(one for target in targets for one in _offsets_of(target))
            self.edge_side = _common_side(self._targets)

    @property
    def context(self) -> Context:
        """How far its targets reach beyond their voxels, before and after each axis."""
        contexts = [context_of(target) for target in self._targets.values()]
        before, after = (np.max([one[side] for one in contexts], axis=0) for side in (0, 1))
        return tuple(before.tolist()), tuple(after.tolist())

    def check(self, patch_size: Sequence[int]) -> None:
        """Raises the UserError of a target for which such patches are too small."""
        for target in self._targets.values():
            target.check(patch_size)

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (C, Z, Y, X), float32 where any of them are, and mask of labels (Z, Y, X)."""
        values, masks = zip(*(target(labels) for target in self._targets.values()), strict=True)
        return np.concatenate(values), np.concatenate(masks)


def activations_of(target: Target) -> tuple[str, ...]:
    """For each channel `sigmoid` or `tanh`; by default probabilities."""
    return getattr(target, "activations", None) or ("sigmoid",) * target.out_channels


def context_of(target: Target) -> Context:
    """How many voxels before and after a patch its values depend on; by default none."""
    return getattr(target, "context", None) or ((0, 0, 0), (0, 0, 0))


def _offsets_of(target: Target) -> tuple[Offset, ...]:
    return getattr(target, "offsets", None) or ((0, 0, 0),) * target.out_channels


def _common_side(targets: Mapping[str, Target]) -> EdgeSide:
    sides: dict[EdgeSide, str] = {}
    for name, target in targets.items():
        if getattr(target, "offsets", None):
            sides.setdefault(target.edge_side, name)  # type: ignore[attr-defined]
    if len(sides) > 1:
        (one, first), (other, second), *_ = sides.items()
        raise UserError(
            f"target.heads.{second}.edge_side is '{other}', that of {first} is '{one}': the "
            "affinities of a network have one edge side"
        )
    return next(iter(sides))
