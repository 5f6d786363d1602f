"""Training samples by number: patch, augmentation, target."""

from collections.abc import Sequence

import numpy as np

from emseg.data.augment import Pipeline, Sample, Size
from emseg.data.crops import added, crop_for
from emseg.data.intensity import check_intensities, intensities_of, range_of, to_unit
from emseg.data.labelled import (
    LabelledVolume,
    check_labels,
    check_stored_ids,
    in_memory,
    pieces,
    read_labels,
    read_region,
)
from emseg.data.learnable import check_learnable
from emseg.data.perturbation import Perturbation
from emseg.data.sampling import CropPositions, Draws, Place, RejectSampling, sample_generator
from emseg.data.targets import Target
from emseg.errors import UserError
from emseg.kernels.copies import owned

LARGEST_SEED = np.iinfo(np.int64).max


class PatchDataset:
    """An endless dataset: sample `index` is a pure function of (seed, namespace, index).

    It does not matter which worker or device asks, or in what order. Index 0, 1, 2 ... are the
    samples of a training run. A sample is a dict of arrays:

    - image (C, Z, Y, X) float32 in [0, 1],
    - target (K, Z, Y, X) uint8, or float32 for distances, and mask (K, Z, Y, X) bool, true where
      the target is known,
    - label (Z, Y, X) int32, 0 background, -1 unlabelled,
    - with `reject`, draws (3) int64: the number of draws, whether the patch has enough foreground,
      whether it was accepted (else it is just the last draw).

    Without a `target` it has only the image, and seed, int64: a random number for all later random
    changes of the sample. With a `perturbation` `image` is the clean view and `perturbed` (C, Z, Y,
    X), float32 in [0, 1], that of the student.

    The patch is read with the augmentation's margin around it, augmented, and cropped to
    `patch_size` before the target is made.

    Args:
        volumes: drawn by their weights, or by their number of positions. Without a `target` they
            need no labels.
        patch_size: voxels per stored axis.
        seed, namespace: samples depend on them; `namespace` separates streams with the same seed (0
            training, 1 validation).
        target: made of the labels. None: images alone.
        augment: None: no changes.
        perturbation: replaces `augment`, for images without a target.
        intensity_range, intensity_percentiles: as for `range_of`.
        pad_small: reflects the image of a volume smaller than the crop (labels outside are
            unlabelled); else such a volume is refused.
        preload: reads the volumes into memory, images in their stored dtype: forked workers share
            it, spawned ones get a copy each.
        target_context: the patch is read and augmented with what the target needs beyond it, so
            that pairs across its faces are known too, and cropped when the target is made; context
            may extend beyond the volume, where it is reflected and unlabelled.
        relabel_crops: pieces of an object that do not touch within the crop become different
            objects.
        reject: looks at the labels of the unchanged patch.

    Attributes:
        notes: lines on volumes that are reflected, and warnings of `check_learnable`.
        intensities: the `Intensities` of each volume.

    Raises:
        UserError: any fault of the volumes (it names the file) or settings, before a first sample.
        ValueError: a perturbation together with a target or `augment`.
    """

    def __init__(
        self,
        volumes: Sequence[LabelledVolume],
        *,
        patch_size: Sequence[int],
        seed: int,
        target: Target | None,
        augment: Pipeline | None = None,
        perturbation: Perturbation | None = None,
        namespace: int = 0,
        intensity_range: Sequence[float] | None = None,
        intensity_percentiles: Sequence[float] | None = None,
        pad_small: bool = False,
        preload: bool = True,
        target_context: bool = False,
        relabel_crops: bool = False,
        reject: RejectSampling | None = None,
    ) -> None:
        if perturbation is not None and (target is not None or augment is not None):
            raise ValueError("a perturbation is for images without a target, and augments them")
        self._augment, self._perturbation = augment or Pipeline(), perturbation
        self._target = target
        self._seed, self._namespace = seed, namespace
        self._relabel, self._reject = relabel_crops, reject
        changes = perturbation or self._augment
        crop, self.notes = crop_for(
            volumes,
            patch_size,
            target=target,
            target_context=target_context,
            changes=changes,
            reject=reject,
            pad_small=pad_small,
        )
        self._crop = crop
        ends = added(crop.context, crop.patch)
        self._patch = tuple(slice(*pair) for pair in zip(crop.context, ends, strict=True))
        intensities = {
            "intensity_range": intensity_range,
            "intensity_percentiles": intensity_percentiles,
        }
        for volume in volumes:
            check_intensities(volume.image, **intensities)
            check_labels(volume)
        _check_ids(volumes, target, relabel_crops)
        self._volumes = [in_memory(volume) if preload else volume for volume in volumes]
        if target is not None:
            self.notes += check_learnable(
                volumes, self._volumes, target=target, reject=reject, pieces=relabel_crops
            )
        self._ranges = [range_of(volume.image, **intensities) for volume in self._volumes]
        self.intensities = [
            intensities_of(volume.image, range_)
            for volume, range_ in zip(self._volumes, self._ranges, strict=True)
        ]
        shapes = [volume.image.shape for volume in volumes]
        self._positions = CropPositions(shapes, crop=crop.within, weights=_weights(volumes))

    @property
    def channels(self) -> int:
        """The number of image channels."""
        return self._volumes[0].image.channels or 1

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rng = sample_generator(seed=self._seed, namespace=self._namespace, index=index)
        place, draws = self._place(rng)
        crop = self._crop_at(place)
        if self._perturbation is not None:
            image, perturbed = self._perturbation.views(crop, self._crop.size, rng)
            return {"image": image, "perturbed": perturbed, "seed": _seed(rng)}
        sample = self._augment(crop, self._crop.size, rng)
        # Copies: preloaded arrays are shared and must not be changed.
        if self._target is None:
            image = np.ascontiguousarray(to_unit(sample.image))
            return {"image": image, "seed": _seed(rng)}
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
        """A volume's number and the corner of a crop in it, and how they were drawn."""
        if self._reject is None:
            return self._positions.draw(rng), None
        return self._reject.draw(lambda: self._positions.draw(rng), self._enough, rng)

    def _enough(self, place: Place) -> bool:
        assert self._reject is not None
        number, corner = place
        start = np.add(corner, self._crop.margin)
        labels = read_labels(self._volumes[number], start, start + self._crop.patch)
        return np.count_nonzero(labels > 0) >= self._reject.size_thres

    def _crop_at(self, place: Place) -> Sample:
        """A crop, uint8 if intensities are stored as uint8 and not rescaled."""
        number, corner = place
        start = np.subtract(corner, self._crop.context).tolist()
        stop = np.add(start, self._crop.whole).tolist()
        image, labels = read_region(self._volumes[number], start, stop)
        if self._relabel:
            labels = pieces(labels)
        if image.dtype != np.uint8 or self._ranges[number] is not None:
            image = to_unit(image, intensity_range=self._ranges[number])
        return Sample(image, labels, draw=self._another)

    def _another(self, size: Size, rng: np.random.Generator) -> Sample:
        return self._crop_at(self._positions.draw(rng)).centre(size)


def _seed(rng: np.random.Generator) -> np.ndarray:
    return np.array(rng.integers(LARGEST_SEED))


def _check_ids(
    volumes: Sequence[LabelledVolume], target: Target | None, relabel_crops: bool
) -> None:
    if target is None or not target.needs_stored_ids:
        return
    if relabel_crops:
        raise UserError(
            f"data.relabel_crops: true does not go with {type(target).__name__}, to which ids say "
            "what they are"
        )
    for volume in volumes:
        check_stored_ids(volume)


def _weights(volumes: Sequence[LabelledVolume]) -> list[float] | None:
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
