"""Training targets, made from labels."""

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide, affinities, erode_labels

Offset = tuple[int, int, int]
# Voxels before and after a patch, per axis.
Context = tuple[Offset, Offset]


class Target(Protocol):
    """Values and a mask of where they are known, both (C, Z, Y, X), from int32 labels (Z, Y, X).

    Labels are 0 for background and -1 where nothing is known. A target of affinities has `offsets`
    and `edge_side`, one with named parts `heads`, one with values that are not all probabilities
    `activations`, as in `emseg.data.heads.Heads`; one whose values depend on labels of other voxels
    has `context`, how far away; one that interprets ids `needs_stored_ids`.
    """

    @property
    def out_channels(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def check(self, patch_size: Sequence[int]) -> None: ...

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


class Affinity:
    """The affinity target: whether two voxels an offset apart are in the same object (1 = same).

    `offsets` are (d0, d1, d2) in stored axes, or strings such as "0-0-27". An edge is stored at its
    `edge_side`: at the destination, channel c at v describes (v, v - o_c), at the source (v, v +
    o_c). `erosion` is a radius per axis: first, every voxel whose box of 2r + 1 voxels holds more
    than one id becomes background; background is an id too where it is to `erode_at_background`.
    Background pairs are known zeros; a pair that extends beyond the patch or has an unlabelled
    voxel is masked (Lee et al. 2017, "Superhuman accuracy on the SNEMI3D connectomics challenge").
    With `replicate_boundary` a voxel at the border is paired with itself instead: 1 for an object,
    0 for background (dbMiM).

    UserErrors: offsets that are not three integers, zero, or repeated, and an erosion that is not
    three radii.
    """

    def __init__(
        self,
        *,
        offsets: Sequence[Sequence[int] | str],
        edge_side: EdgeSide = "destination",
        erosion: tuple[int, int, int] = (0, 0, 0),
        erode_at_background: bool = True,
        replicate_boundary: bool = False,
    ) -> None:
        self.offsets: tuple[Offset, ...] = tuple(_offset(offset) for offset in offsets)
        if not self.offsets:
            raise UserError("target.offsets is empty")
        twice = [o for o in self.offsets if self.offsets.count(o) > 1]
        if twice:
            raise UserError(f"target.offsets names {list(twice[0])} twice")
        if edge_side not in ("source", "destination"):
            raise UserError(f"target.edge_side '{edge_side}' must be 'source' or 'destination'")
        if len(erosion) != 3 or any(not isinstance(r, int) or r < 0 for r in erosion):
            raise UserError(
                f"target.erosion {list(erosion)} must be three radii of 0 or more voxels"
            )
        self.edge_side: EdgeSide = edge_side
        self.erosion = tuple(erosion)
        self.erode_at_background = erode_at_background
        self.replicate_boundary = replicate_boundary

    @property
    def out_channels(self) -> int:
        """The number of channels: one per offset."""
        return len(self.offsets)

    @property
    def names(self) -> tuple[str, ...]:
        """The channels' names: their offsets as "d0-d1-d2"."""
        return tuple("-".join(map(str, offset)) for offset in self.offsets)

    @property
    def context(self) -> Context:
        """How far pairs extend beyond the voxels that store them, before and after on each axis."""
        reach = np.array(self.offsets) * (1 if self.edge_side == "source" else -1)
        return _farthest(-reach), _farthest(reach)

    def check(self, patch_size: Sequence[int]) -> None:
        """Raises UserError if an offset has no pair of voxels inside the patch."""
        for offset in self.offsets:
            if any(abs(step) >= size for step, size in zip(offset, patch_size, strict=True)):
                raise UserError(
                    f"target.offsets: {list(offset)} leaves every patch of {list(patch_size)}"
                )

    def __call__(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Affinities (C, Z, Y, X) uint8 and their mask (bool, true = known) of labels (Z, Y, X)."""
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
