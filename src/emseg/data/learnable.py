"""Checks, before a training begins, whether there is anything to learn from labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from emseg.data.intensity import SLAB_VOXELS, slab_bounds, slabs
from emseg.data.labelled import UNLABELLED, LabelledVolume, read_labels
from emseg.data.sampling import RejectSampling
from emseg.data.targets import Target
from emseg.errors import UserError

# The most voxels that are read of labels not in memory: evenly spaced slabs.
MOST_VOXELS = 16 * SLAB_VOXELS


@dataclass
class _Found:
    """What was found in a volume's labels; it is enough to know up to two ids."""

    known: bool = False
    background: bool = False
    ids: set[int] = field(default_factory=set)
    foreground: int = 0
    whole: bool = True

    def add(self, labels: np.ndarray) -> None:
        self.known |= bool((labels != UNLABELLED).any())
        self.background |= bool((labels == 0).any())
        objects = labels[labels > 0]
        self.foreground += objects.size
        if objects.size and len(self.ids) < 2:
            self.ids |= {int(objects.min()), int(objects.max())}


def check_learnable(
    volumes: Sequence[LabelledVolume],
    read: Sequence[LabelledVolume],
    *,
    target: Target,
    reject: RejectSampling | None,
    pieces: bool,
) -> list[str]:
    """Warnings about labels from which little can be learned; a UserError where nothing can be.

    Errors are a volume without labelled voxels inside its mask, volumes without objects for a
    target of affinities, and a `reject` that needs more foreground than there is. Warnings are for
    a volume with one id, volumes without foreground, and a checked part without labels. `read` are
    the `volumes` as they are read: in memory, say. Of others at most `MOST_VOXELS` are checked.
    With `pieces` an id may mean several objects.
    """
    least = 1 if reject is None else reject.size_thres
    found = [_look(volume, least) for volume in read]
    notes = []
    for volume, one in zip(volumes, found, strict=True):
        assert volume.label is not None
        if not one.known:
            notes.append(_unlabelled(volume, one))
        elif len(one.ids) == 1 and not (one.background and (pieces or not _of_pairs(target))):
            beside = " beside background" if one.background else ""
            notes.append(
                f"warning: {volume.label.location} has one id alone{beside} ({one.ids.pop()}): "
                "there is no border between objects to learn from"
            )
    places = ", ".join(volume.label.location for volume in volumes if volume.label)
    if all(one.whole and not one.foreground for one in found):
        if _of_pairs(target):
            raise UserError(f"{places}: label is background (0) alone, no object to learn from")
        notes.append(f"warning: {places}: label has no foreground, background alone is learned")
    most = max(one.foreground for one in found)
    if reject is not None and most < least and all(one.whole for one in found):
        raise UserError(
            f"data.reject_sampling.size_thres: {least} voxels of foreground are asked of a patch, "
            f"but there are no more than {most} in {places}"
        )
    return notes


def _of_pairs(target: Target) -> bool:
    return target.offsets is not None and all(map(any, target.offsets))


def _look(volume: LabelledVolume, least: int) -> _Found:
    assert volume.label is not None
    bounds = [*slab_bounds(volume.label)]
    step = max(1, len(bounds) * SLAB_VOXELS // MOST_VOXELS)
    found = _Found(whole=step == 1 or volume.label.location == "the array")
    for start, stop in bounds if found.whole else bounds[::step]:
        found.add(read_labels(volume, start, stop))
        if len(found.ids) == 2 and found.foreground >= least:
            break
    return found


def _unlabelled(volume: LabelledVolume, found: _Found) -> str:
    """A warning, if only a part was checked; else raises a UserError that says why."""
    label, mask = volume.label, volume.mask
    assert label is not None
    if not found.whole:
        return f"warning: {label.location}: no labelled voxel was found in a part of its sections"
    named = "-1" if volume.unlabelled is None else f"unlabelled={volume.unlabelled}, or -1"
    if mask is None or not _look(replace(volume, mask=None), 1).known:
        raise UserError(
            f"{label.location}: nothing to learn, label is unlabelled ({named}) everywhere"
        )
    left = (
        "is 0 everywhere"
        if not any(slab.any() for slab in slabs(mask))
        else "leaves unlabelled voxels alone"
    )
    raise UserError(f"{mask.location}: nothing to learn from {label.location}, mask {left}")
