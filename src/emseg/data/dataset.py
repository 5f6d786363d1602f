"""Training samples by number: patch, augmentation, target."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from emseg.data.augment import Pipeline, Sample, Size
from emseg.data.heads import context_of
from emseg.data.intensity import range_of, to_unit
from emseg.data.labelled import (
    LabelledVolume,
    check_shapes,
    check_stored_ids,
    check_voxels,
    in_memory,
    pieces,
    read_labels,
    read_region,
)
from emseg.data.sampling import CropPositions, Draws, Place, RejectSampling, sample_generator
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.kernels.copies import owned

NO_CONTEXT = ((0, 0, 0), (0, 0, 0))
LARGEST_SEED = np.iinfo(np.int64).max


class PatchDataset:
    """An endless dataset: sample `index` is a pure function of (seed, namespace, index).

    It does not matter which worker or device asks, or in what order. Index 0, 1, 2 ... are the
    samples of a training run; `namespace` keeps apart streams that share a seed (0 training,
    1 validation). A sample is a dict of arrays:

    - image (C, Z, Y, X) float32 in [0, 1],
    - target (K, Z, Y, X) uint8 and mask (K, Z, Y, X) bool, true where the target is known,
    - label (Z, Y, X) int32, 0 background, -1 unlabelled,
    - with `reject`, draws (3) int64: how many it took, whether the patch has foreground enough,
      whether it was accepted (else it is the last of as many as are drawn).

    Without a `target` it has the image alone, and seed, int64: a random number of the sample, which
    decides what else is done to it at random. Volumes need no labels then.

    The patch is read with the augmentation's margin around it, augmented, cut to `patch_size`,
    and only then made into the target. With `target_context` it is read and augmented with what
    the target needs beyond it, so that pairs across its faces are known too, and cut when the
    target is made; context may leave the volume, where it is reflected and unlabelled. With
    `relabel_crops` pieces of an object that do not touch within the crop are other objects.

    Volumes are drawn by their weights, or by their number of positions; `reject` looks at the
    labels of the patch before anything is done to it. A volume smaller than the crop is a UserError
    unless `pad_small` reflects its image (the labels out there are unlabelled). `preload` reads the
    volumes into memory, images in their stored dtype: workers that are forked share it, spawned
    ones get a copy each.

    Before the first sample, whatever is wrong with the volumes is a UserError that names the file;
    `notes` tell the user which volumes are reflected.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        *,
        patch_size: Sequence[int],
        seed: int,
        target: Target | None,
        augment: Pipeline | None = None,
        namespace: int = 0,
        intensity_range: Sequence[float] | None = None,
        intensity_percentiles: Sequence[float] | None = None,
        pad_small: bool = False,
        preload: bool = True,
        target_context: bool = False,
        relabel_crops: bool = False,
        reject: RejectSampling | None = None,
    ) -> None:
        self._augment = augment or Pipeline()
        self._target = target
        self._seed, self._namespace = seed, namespace
        self._relabel = relabel_crops
        self._reject = reject
        before, after = context_of(target) if target and target_context else NO_CONTEXT
        self._before = before
        self._size = _checked_size(patch_size, before, after, target=target)
        self._patch = tuple(slice(at, at + n) for at, n in zip(before, patch_size, strict=True))
        margin = self._augment.margin(self._size)
        self._crop = _sum(self._size, margin, margin)
        needed = _sum(patch_size, margin, margin)
        self._margin, self._patch_size = margin, tuple(patch_size)
        intensities = {
            "intensity_range": intensity_range,
            "intensity_percentiles": intensity_percentiles,
        }
        _check_volumes(volumes, intensities)
        _check_ids(volumes, target, relabel_crops)
        _check_rejection(reject, patch_size)
        self._augment.check(self._size, volumes[0].image.axes)
        self.notes = _small_volumes(volumes, crop=needed, margin=margin, pad_small=pad_small)
        self._volumes = [in_memory(volume) if preload else volume for volume in volumes]
        self._ranges = [range_of(volume.image, **intensities) for volume in self._volumes]
        self._positions = CropPositions(
            [volume.image.shape for volume in volumes], crop=needed, weights=_weights(volumes)
        )

    @property
    def channels(self) -> int:
        """The number of image channels."""
        return self._volumes[0].image.channels or 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = sample_generator(seed=self._seed, namespace=self._namespace, index=index)
        place, draws = self._place(rng)
        sample = self._augment(self._crop_at(place), self._size, rng)
        # Arrays of its own: what is preloaded is shared and may not be written to.
        if self._target is None:
            image = np.ascontiguousarray(to_unit(sample.image))
            return {"image": image, "seed": np.array(rng.integers(LARGEST_SEED))}
        labels = owned(sample.labels)
        target, mask = self._target(labels)
        made = {
            "image": to_unit(sample.image[:, *self._patch]),
            "target": target[:, *self._patch],
            "mask": mask[:, *self._patch],
            "label": labels[self._patch],
        }
        if draws is not None:
            made["draws"] = np.array([draws.number, draws.foreground, draws.accepted])
        return {name: np.ascontiguousarray(array) for name, array in made.items()}

    def _place(self, rng: np.random.Generator) -> tuple[Place, Draws | None]:
        """A volume's number and the corner of a crop in it, and what it took to find them."""
        if self._reject is None:
            return self._positions.draw(rng), None
        return self._reject.draw(lambda: self._positions.draw(rng), self._enough, rng)

    def _enough(self, place: Place) -> bool:
        assert self._reject is not None
        number, corner = place
        start = np.add(corner, self._margin)
        labels = read_labels(self._volumes[number], start, start + self._patch_size)
        return np.count_nonzero(labels > 0) >= self._reject.size_thres

    def _crop_at(self, place: Place) -> Sample:
        """A crop, uint8 where intensities are stored as such and mean what they are."""
        number, corner = place
        start = [first - before for first, before in zip(corner, self._before, strict=True)]
        stop = [first + size for first, size in zip(start, self._crop, strict=True)]
        image, labels = read_region(self._volumes[number], start, stop)
        if self._relabel:
            labels = pieces(labels)
        if image.dtype != np.uint8 or self._ranges[number] is not None:
            image = to_unit(image, intensity_range=self._ranges[number])
        return Sample(image, labels, draw=self._another)

    def _another(self, size: Size, rng: np.random.Generator) -> Sample:
        return self._crop_at(self._positions.draw(rng)).centre(size)


def _sum(size: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Size:
    depth, height, width = (sum(parts) for parts in zip(size, before, after, strict=True))
    return depth, height, width


def _checked_size(
    patch_size: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    *,
    target: Target | None,
) -> Size:
    """The size of the patch with its context; a UserError where one of them asks for another."""
    if len(patch_size) != 3 or any(size < 1 for size in patch_size):
        raise UserError(
            f"data.dataloader.patch_size {list(patch_size)} must be three sizes of 1 or more voxels"
        )
    size = _sum(patch_size, before, after)
    if target is not None:
        target.check(size)
    return size


def _check_volumes(
    volumes: Sequence[LabelledVolume], intensities: Mapping[str, Sequence[float] | None]
) -> None:
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
        check_voxels(volume, **intensities)


def _check_ids(
    volumes: Sequence[LabelledVolume], target: Target | None, relabel_crops: bool
) -> None:
    """Nothing, or a UserError where a target that reads ids as they are stored gets others."""
    if not getattr(target, "needs_stored_ids", False):
        return
    if relabel_crops:
        raise UserError(
            f"data.relabel_crops: true does not go with {type(target).__name__}, to which ids say "
            "what they are"
        )
    for volume in volumes:
        check_stored_ids(volume)


def _check_rejection(reject: RejectSampling | None, patch_size: Sequence[int]) -> None:
    voxels = math.prod(patch_size)
    if reject is not None and reject.size_thres > voxels:
        raise UserError(
            f"data.reject_sampling.size_thres: {reject.size_thres} is more than the {voxels} "
            f"voxels of a patch {list(patch_size)}"
        )


def _small_volumes(
    volumes: Sequence[LabelledVolume],
    *,
    crop: Sequence[int],
    margin: Sequence[int],
    pad_small: bool,
) -> list[str]:
    """A note on each volume smaller than the crop, or a UserError when none may be."""
    around = f" with the augmentation's margin {list(margin)}" if any(margin) else ""
    notes = []
    for volume in volumes:
        image = volume.image
        if all(size >= need for size, need in zip(image.shape, crop, strict=True)):
            continue
        small = f"{image.location} of shape {image.shape} is smaller than a patch"
        small += f" {list(crop)}{around}"
        if not pad_small:
            raise UserError(
                f"{small}: lower data.dataloader.patch_size, or set data.pad_small=true to reflect"
            )
        unlabelled = "" if volume.label is None else ", with no labels out there"
        notes.append(f"{small}: its image is reflected{unlabelled}")
    return notes


def _weights(volumes: Sequence[LabelledVolume]) -> list[float] | None:
    weights = [volume.weight for volume in volumes if volume.weight is not None]
    if not weights:
        return None
    if len(weights) < len(volumes):
        bare = next(volume for volume in volumes if volume.weight is None)
        raise UserError(
            f"{bare.image.location} has no weight, others do: weigh all volumes or none"
        )
    return weights
