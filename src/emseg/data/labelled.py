"""A volume, usually with its truth: checks, and regions as a network needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import fastremap
import numpy as np

from emseg.data.intensity import slab_bounds, slabs
from emseg.errors import UserError
from emseg.volumes import Volume, from_array, read_padded

UNLABELLED = -1
LARGEST_ID = np.iinfo(np.int32).max
LARGEST_SIGNED = np.iinfo(np.int64).max


@dataclass(frozen=True)
class LabelledVolume:
    """An image with labels on the same grid; without labels, all of it is unlabelled.

    Attributes:
        mask: nonzero where labels are known; None: everywhere.
        unlabelled: the id that means unknown, beside -1.
        background: an id that means 0.
        weight: how often patches are drawn from it (relative; by size if no volume has a weight).
    """

    image: Volume
    label: Volume | None = None
    mask: Volume | None = None
    unlabelled: int | None = None
    background: int | None = None
    weight: float | None = None


def check_shapes(volume: LabelledVolume) -> None:
    """Check shapes, axes and types of the volume's parts, which are not read.

    Raises:
        UserError: labels or mask have another shape or other axes than the image, or channels, or
            are not integers; the weight is not above 0.
    """
    image, label, mask = volume.image, volume.label, volume.mask
    for part in (label, mask):
        if part is None:
            continue
        if part.shape != image.shape:
            raise UserError(
                f"{part.location} has shape {part.shape}, its image {image.location} {image.shape}"
            )
        if part.axes != image.axes:
            raise UserError(
                f"{part.location} has axes {part.axes}, its image {image.location} {image.axes}: "
                "name the stored order of both with axes"
            )
        if part.dtype.kind not in "iub":
            raise UserError(f"{part.location} holds {part.dtype}: labels and masks are integers")
        if part.channels is not None:
            raise UserError(f"{part.location} has {part.channels} channels: labels have none")
    if volume.weight is not None and not volume.weight > 0:
        raise UserError(f"weight {volume.weight} of {image.location} must be above 0")


def check_labels(volume: LabelledVolume) -> None:
    """Check the ids of the labels; only signed labels and those of 64 bits are read.

    Raises:
        UserError: there are invalid ids, see `interpret_ids`.
    """
    if volume.label is None:
        return
    if volume.label.dtype.kind == "i" or volume.label.dtype == np.uint64:
        for slab in slabs(volume.label):
            interpret_ids(slab, volume.unlabelled, volume.background, where=volume.label.location)


def interpret_ids(
    stored: np.ndarray, unlabelled: int | None, background: int | None, *, where: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """The ids, with `background` as 0, and where they are unknown.

    Args:
        stored: integers or bool, any shape.
        unlabelled: the id that means unknown, beside -1; None: -1 alone.
        background: an id that means 0, even if it is -1; None: no id beside 0.
        where: the file, for messages.

    Returns:
        ids of the same dtype (bool: uint8), and a mask that is true where they are unknown, or None
            if that is nowhere.

    Raises:
        UserError: an id is below -1, or 2^63 or more, and is neither `unlabelled` nor `background`.
    """
    if stored.dtype == np.bool_:
        stored = stored.view(np.uint8)
    unknown = None
    if stored.dtype.kind == "i" and stored.min(initial=0) < 0:
        _refuse(stored[stored < UNLABELLED], (unlabelled, background), where)
        unknown = stored < 0
    if stored.dtype == np.uint64 and stored.max(initial=0) > LARGEST_SIGNED:
        _refuse(stored[stored > LARGEST_SIGNED], (unlabelled, background), where)
    if unlabelled is not None:
        found = stored == unlabelled
        unknown = found if unknown is None else unknown | found
    if background is None:
        return stored, unknown
    nothing = stored == background
    return np.where(nothing, 0, stored), None if unknown is None else unknown & ~nothing


def _refuse(odd: np.ndarray, named: Sequence[int | None], where: str) -> None:
    for value in np.unique(odd).tolist():
        if value not in named:
            raise UserError(f"{where} holds the label {value}: {_meaning(value)}")


def _meaning(value: int) -> str:
    if value < 0:
        return f"labels are 0 or more, or {UNLABELLED} for unlabelled"
    return (
        "labels are below 2^63; the files of CREMI mark background (clefts) or what is unlabelled "
        f"(neurons) with {2**64 - 1}, what is invalid with {2**64 - 2}: name them in the volume's "
        "background and unlabelled"
    )


def check_stored_ids(volume: LabelledVolume) -> None:
    """Raises UserError for ids that would be renumbered for a target; reads labels of 64 bits."""
    label = volume.label
    if label is None or np.can_cast(label.dtype, np.int32):
        return
    largest = _largest_id(volume, label)
    if largest > LARGEST_ID:
        raise UserError(
            f"{label.location} holds the label {largest}: ids say what they are here, and must be "
            "below 2^31"
        )


def in_memory(volume: LabelledVolume) -> LabelledVolume:
    """The same volume read once: image in its stored dtype, labels and mask as one int32 array."""
    labels = None if volume.label is None else _all_labels(volume, volume.label)
    spatial = volume.image.axes
    stored = spatial if volume.image.channels is None else f"c{spatial}"
    return LabelledVolume(
        image=from_array(volume.image[...], axes=stored),
        label=None if labels is None else from_array(labels, axes=spatial),
        weight=volume.weight,
    )


def read_region(
    volume: LabelledVolume, start: Sequence[int], stop: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """One region: image (C, Z, Y, X) as stored, and labels int32 (Z, Y, X); either may be a view.

    Beyond the volume the image is reflected and the labels are unlabelled. Ids are the stored ones
    unless they exceed int32; then they are renumbered within the region, except 0.
    """
    labels = read_labels(volume, start, stop)
    if _inside(volume, start, stop) == (list(start), list(stop)):
        image = volume.image.view(start, stop)
    else:
        image = read_padded(volume.image, start, stop, mode="reflect")
    return image if volume.image.channels is not None else image[np.newaxis], labels


def read_labels(volume: LabelledVolume, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
    """The labels of `read_region`, without the image."""
    if volume.label is None:
        return np.full(np.subtract(stop, start), UNLABELLED, np.int32)
    inner_start, inner_stop = _inside(volume, start, stop)
    labels = _labels(volume, volume.label, inner_start, inner_stop)
    before, after = np.subtract(inner_start, start), np.subtract(stop, inner_stop)
    if not (before.any() or after.any()):
        return labels
    return np.pad(labels, list(zip(before, after, strict=True)), constant_values=UNLABELLED)


def _inside(
    volume: LabelledVolume, start: Sequence[int], stop: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The part of the region that is in the volume."""
    ends = zip(stop, volume.image.shape, strict=True)
    return [max(0, int(a)) for a in start], [min(int(b), size) for b, size in ends]


def pieces(labels: np.ndarray) -> np.ndarray:
    """Each 6-connected piece of an object gets its own id, int32; 0 and -1 stay."""
    # cc3d does not accept read-only arrays.
    own = np.array(labels)
    numbered = cc3d.connected_components(own, connectivity=6, out_dtype=np.uint32)
    return np.where(labels == UNLABELLED, UNLABELLED, numbered.view(np.int32))


def _all_labels(volume: LabelledVolume, label: Volume) -> np.ndarray:
    if not np.can_cast(label.dtype, np.int32) and _largest_id(volume, label) > LARGEST_ID:
        # An id must get the same number everywhere, so all are read at once.
        return _labels(volume, label, (0, 0, 0), label.shape)
    labels = np.empty(label.shape, np.int32)
    for start, stop in slab_bounds(label):
        labels[start[0] : stop[0]] = _labels(volume, label, start, stop)
    return labels


def _largest_id(volume: LabelledVolume, label: Volume) -> int:
    bounds = slab_bounds(label)
    return max(int(_known(volume, label, *region)[0].max(initial=0)) for region in bounds)


def _labels(
    volume: LabelledVolume, label: Volume, start: Sequence[int], stop: Sequence[int]
) -> np.ndarray:
    as_stored = volume.unlabelled in (None, UNLABELLED) and volume.background in (None, 0)
    if as_stored and volume.mask is None and label.dtype == np.int32:
        return label.view(start, stop)
    known, unknown = _known(volume, label, start, stop)
    if known.max(initial=0) > LARGEST_ID:
        known, _ = fastremap.renumber(known, preserve_zero=True)
    labels = known.astype(np.int32)
    labels[unknown] = UNLABELLED
    return labels


def _known(
    volume: LabelledVolume, label: Volume, start: Sequence[int], stop: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The stored ids, 0 where they are unknown, and where that is."""
    ids, unknown = interpret_ids(
        label.read(start, stop), volume.unlabelled, volume.background, where=label.location
    )
    if unknown is None:
        unknown = np.zeros(ids.shape, bool)
    if volume.mask is not None:
        unknown = unknown | (volume.mask.read(start, stop) == 0)
    return np.where(unknown, 0, ids), unknown
