"""Training targets, made from labels."""

import re
from collections.abc import Sequence
from typing import Annotated, Protocol

import numpy as np

from emseg.bounds import at_least, checked, within
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide, affinities, erode_labels

Offset = tuple[int, int, int]
# Voxels before and after a patch, per axis.
Context = tuple[Offset, Offset]
Radius = Annotated[int, within(0)]


class Target(Protocol):
    """The base of a target: what a network is to make of labels, and what its channels are.

    The attributes have defaults, for a target of probabilities at single voxels.

    Attributes:
        names: of the channels.
        offsets: with affinities, each channel's offset, (0, 0, 0) for a channel of something else.
        edge_side: with affinities, where they are stored.
        heads: named parts: the channels [first, stop) of each, in order.
        activations: how a channel's logit becomes its value: `sigmoid`, or `tanh` for values in
            [-1, 1]; None: all by `sigmoid`.
        context: how many voxels before and after a patch its values depend on.
        needs_stored_ids: whether an id's number says something, so that objects may not be
            renumbered.
    """

    names: tuple[str, ...]
    offsets: tuple[Offset, ...] | None = None
    edge_side: EdgeSide | None = None
    heads: dict[str, tuple[int, int]] | None = None
    activations: tuple[str, ...] | None = None
    context: Context = ((0, 0, 0), (0, 0, 0))
    needs_stored_ids: bool = False

    @property
    def out_channels(self) -> int:
        """The number of channels."""
        return len(self.names)

    def check(self, patch_size: Sequence[int]) -> None:
        """Check that patches are large enough; here all are.

        Raises:
            UserError: they are too small.
        """

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The target of a patch.

        Args:
            labels: int32 (Z, Y, X), 0 for background and -1 where nothing is known.

        Returns:
            Values (C, Z, Y, X), uint8, or float32 where any are distances; a mask (bool) of that
            shape, true where they are known.
        """
        ...


class Affinity(Target):
    """The affinity target: whether two voxels an offset apart are in the same object (1 = same).

    Background pairs are known zeros; a pair that extends beyond the patch or has an unlabelled
    voxel is masked (Lee et al. 2017, "Superhuman accuracy on the SNEMI3D connectomics challenge").

    Args:
        offsets: (d0, d1, d2) in stored axes, or strings such as "0-0-27".
        edge_side: where an edge is stored: at the `destination`, channel c at v describes (v, v -
            o_c), at the `source` (v, v + o_c).
        erosion: a radius per axis: first, every voxel whose box of 2r + 1 voxels holds more than
            one id becomes background.
        erode_at_background: background is an id there, too.
        replicate_boundary: a voxel whose pair extends beyond the patch is paired with itself: 1 for
            an object, 0 for background (dbMiM).

    Raises:
        UserError: offsets that are not three integers, zero, or repeated; a negative erosion.
    """

    offsets: tuple[Offset, ...]
    edge_side: EdgeSide

    @checked
    def __init__(
        self,
        *,
        offsets: Annotated[Sequence[Sequence[int] | str], at_least(1)],
        edge_side: EdgeSide = "destination",
        erosion: tuple[Radius, Radius, Radius] = (0, 0, 0),
        erode_at_background: bool = True,
        replicate_boundary: bool = False,
    ) -> None:
        own = tuple(_offset(offset) for offset in offsets)
        twice = [offset for offset in own if own.count(offset) > 1]
        if twice:
            raise UserError(f"target.offsets names {list(twice[0])} twice")
        reach = np.array(own) * (1 if edge_side == "source" else -1)
        self.offsets = own
        self.names = tuple("-".join(map(str, offset)) for offset in own)
        self.edge_side = edge_side
        self.context = _farthest(-reach), _farthest(reach)
        self.erosion = tuple(erosion)
        self.erode_at_background = erode_at_background
        self.replicate_boundary = replicate_boundary

    def check(self, patch_size: Sequence[int]) -> None:
        """Check that each offset has a pair of voxels inside a patch.

        Raises:
            UserError: an offset has none.
        """
        for offset in self.offsets:
            if any(abs(step) >= size for step, size in zip(offset, patch_size, strict=True)):
                raise UserError(
                    f"target.offsets: {list(offset)} leaves every patch of {list(patch_size)}"
                )

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if any(self.erosion):
            labels = erode_labels(
                labels, radius=self.erosion, at_background=self.erode_at_background
            )
        return affinities(
            labels,
            offsets=self.offsets,
            edge_side=self.edge_side,
            replicate_boundary=self.replicate_boundary,
        )


def _farthest(steps: np.ndarray) -> Offset:
    z, y, x = np.maximum(steps, 0).max(axis=0).tolist()
    return z, y, x


def _offset(value: Sequence[int] | str) -> Offset:
    if isinstance(value, str):
        match = re.fullmatch(r"(-?\d+)-(-?\d+)-(-?\d+)", value)
        steps = [int(step) for step in match.groups()] if match else []
    else:
        steps = list(value)
    whole = all(isinstance(step, int) and not isinstance(step, bool) for step in steps)
    if len(steps) != 3 or not whole or not any(steps):
        raise UserError(
            f"target.offsets: {value!r} is no offset: three integers, not all 0, or 'd0-d1-d2'"
        )
    return steps[0], steps[1], steps[2]
