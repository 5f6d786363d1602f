"""Checks of a data set's volumes and settings before its first sample."""

import math
from collections.abc import Mapping, Sequence

from emseg.data.intensity import check_intensities
from emseg.data.labelled import LabelledVolume, check_labels, check_shapes, check_stored_ids
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.errors import UserError


def check_volumes(
    volumes: Sequence[LabelledVolume], intensities: Mapping[str, Sequence[float] | None]
) -> None:
    """Raises a UserError that names the first volume with a fault."""
    check_alike(volumes)
    for volume in volumes:
        check_intensities(volume.image, **intensities)
        check_labels(volume)


def check_alike(volumes: Sequence[LabelledVolume]) -> None:
    """Raises UserError for a volume whose parts or channels do not fit. No voxel is read."""
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


def check_ids(
    volumes: Sequence[LabelledVolume], target: Target | None, relabel_crops: bool
) -> None:
    """Raises UserError if a target that needs the stored ids would get others."""
    if target is None or not target.needs_stored_ids:
        return
    if relabel_crops:
        raise UserError(
            f"data.relabel_crops: true does not go with {type(target).__name__}, to which ids say "
            "what they are"
        )
    for volume in volumes:
        check_stored_ids(volume)


def check_rejection(reject: RejectSampling | None, patch_size: Sequence[int]) -> None:
    """Raises UserError if no patch can have as much foreground as required."""
    voxels = math.prod(patch_size)
    if reject is not None and reject.size_thres > voxels:
        raise UserError(
            f"data.reject_sampling.size_thres: {reject.size_thres} is more than the {voxels} "
            f"voxels of a patch {list(patch_size)}"
        )


def weights_of(volumes: Sequence[LabelledVolume]) -> list[float] | None:
    """How often patches come from each volume; None, by size, if no volume has a weight."""
    weights = [volume.weight for volume in volumes if volume.weight is not None]
    if not weights:
        return None
    if len(weights) < len(volumes):
        bare = next(volume for volume in volumes if volume.weight is None)
        raise UserError(
            f"{bare.image.location} has no weight, others do: weigh all volumes or none"
        )
    return weights
