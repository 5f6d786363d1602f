"""How much of a volume a patch needs, and whether a volume is large enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emseg.data.augment import Size
from emseg.data.labelled import LabelledVolume
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


def crop_of(
    patch_size: Sequence[int], *, target: Target | None, target_context: bool, changes: Changes
) -> Crop:
    """The crop for a patch; UserError if the patch is too small for the target."""
    if len(patch_size) != 3 or any(size < 1 for size in patch_size):
        raise UserError(
            f"data.dataloader.patch_size {list(patch_size)} must be three sizes of 1 or more voxels"
        )
    before, after = target.context if target and target_context else Target.context
    size = added(patch_size, before, after)
    if target is not None:
        target.check(size)
    return Crop(added(patch_size), added(before), size, changes.margin(size))


def check_fit(
    volumes: Sequence[LabelledVolume], crop: Crop, *, changes: Changes, pad_small: bool
) -> list[str]:
    """A note on each volume that is reflected. Only shapes are used.

    UserErrors: changes that do not fit the patch, a volume that is too small for it.
    """
    for axes in dict.fromkeys(volume.image.axes for volume in volumes):
        changes.check(crop.size, axes)
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
