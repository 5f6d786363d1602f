"""How much of a volume a patch needs, and whether volumes and patches fit each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emseg.data.augment import Size
from emseg.data.labelled import LabelledVolume, check_shapes
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.errors import UserError


class Changes(Protocol):
    """Random changes of patches: an augmentation or a perturbation."""

    def margin(self, size: Size) -> Size: ...

    def check(self, patch_size: Size, axes: str) -> None: ...


@dataclass(frozen=True)
class Crop:
    """The region read for a patch: itself, the target's `context`, the augmentation's `margin`.

    `context` is the part before the patch; `size` is the patch with the context on both sides.
    """

    patch: Size
    context: Size
    size: Size
    margin: Size

    @property
    def whole(self) -> Size:
        """The size of all that is read."""
        return added(self.size, self.margin, self.margin)

    @property
    def within(self) -> Size:
        """The size that must be inside the volume: only the context may extend beyond it."""
        return added(self.patch, self.margin, self.margin)


def crop_for(
    volumes: Sequence[LabelledVolume],
    patch_size: Sequence[int],
    *,
    target: Target | None,
    target_context: bool,
    changes: Changes,
    reject: RejectSampling | None,
    pad_small: bool,
) -> tuple[Crop, list[str]]:
    """What is read for a patch, and a note on each volume that is reflected.

    Only shapes and types of the volumes are used.

    Raises:
        UserError: parts or channels of volumes that do not fit each other; a patch that does not
            fit its target or changes, or has fewer voxels than `reject` wants; a volume that is too
            small, unless `pad_small` allows it.
    """
    if len(patch_size) != 3 or any(size < 1 for size in patch_size):
        raise UserError(
            f"data.dataloader.patch_size {list(patch_size)} must be three sizes of 1 or more voxels"
        )
    before, after = target.context if target and target_context else Target.context
    size = added(patch_size, before, after)
    if target is not None:
        target.check(size)
    _check_alike(volumes)
    if reject is not None and reject.size_thres > math.prod(patch_size):
        raise UserError(
            f"data.reject_sampling.size_thres: {reject.size_thres} is more than the "
            f"{math.prod(patch_size)} voxels of a patch {list(patch_size)}"
        )
    for axes in dict.fromkeys(volume.image.axes for volume in volumes):
        changes.check(size, axes)
    crop = Crop(added(patch_size), added(before), size, changes.margin(size))
    return crop, _reflected(volumes, crop, pad_small=pad_small)


def _check_alike(volumes: Sequence[LabelledVolume]) -> None:
    if not volumes:
        raise UserError("there is no volume to take patches from")
    first = volumes[0].image
    for volume in volumes:
        check_shapes(volume)
        if volume.image.channels != first.channels:
            raise UserError(
                f"{volume.image.location} has {volume.image.channels or 1} channels, "
                f"{first.location} has {first.channels or 1}"
            )


def _reflected(volumes: Sequence[LabelledVolume], crop: Crop, *, pad_small: bool) -> list[str]:
    around = f" with the augmentation's margin {list(crop.margin)}" if any(crop.margin) else ""
    notes = []
    for volume in volumes:
        image = volume.image
        if all(size >= need for size, need in zip(image.shape, crop.within, strict=True)):
            continue
        small = f"{image.location} of shape {image.shape} is smaller than a patch"
        small += f" {list(crop.within)}{around}"
        if not pad_small:
            raise UserError(
                f"{small}: lower data.dataloader.patch_size, or set data.pad_small=true to reflect"
            )
        unlabelled = "" if volume.label is None else ", with no labels out there"
        notes.append(f"{small}: its image is reflected{unlabelled}")
    return notes


def added(*sizes: Sequence[int]) -> Size:
    """The sum of sizes, axis by axis."""
    depth, height, width = (sum(parts) for parts in zip(*sizes, strict=True))
    return depth, height, width
