"""Positions of volumes relative to each other: offsets in whole voxels of one grid."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from emseg.errors import UserError
from emseg.volumes.volume import Volume, open_volume

# Relative: sizes in files are rounded, especially in TIFF and in 32-bit numbers.
SIZE_TOLERANCE = 1e-3
# Voxels by which an offset may differ from a whole number.
OFFSET_TOLERANCE = 0.05

# First voxels, and one past the last.
Region = tuple[tuple[int, ...], tuple[int, ...]]


def open_beside(location: str | Path, image: Volume) -> Volume:
    """The mask or segmentation at a location, without a channel axis of length 1.

    Args:
        location: as for open_volume.
        image: gives the axes, if the file names no spatial axis and has no channels.

    Raises:
        UserError: as for open_volume.
    """
    part = open_volume(location)
    if not part.names_axes and part.channels is None:
        part = open_volume(location, axes=image.axes)
    return part.without_lone_channel()


def begins_at(part: Volume, image: Volume) -> tuple[int, ...]:
    """The voxel of the image, in the order of its axes, at which the part's first voxel lies.

    It follows from their offsets if both have one, and may be negative; else they must have the
    same shape, and it is (0, 0, 0).

    Args:
        part: a label, mask or segmentation, its axes in the order of the image's.

    Raises:
        UserError: voxel sizes differ, or offsets by parts of a voxel or with no voxel size known;
            or shapes differ without two offsets.
    """
    _check_sizes(part, image)
    size = image.voxel_size or part.voxel_size
    if (
        part.offset is None
        or image.offset is None
        or (size is None and part.offset == image.offset)
    ):
        if part.shape != image.shape:
            raise UserError(
                f"{part.location} has shape {part.shape}, its image {image.location} {image.shape}"
            )
        return (0, 0, 0)
    if size is None:
        raise UserError(f"{_where(part)} and {_where(image)}, of voxels of a size that neither has")
    own = [o / s for o, s in zip(part.offset, part.voxel_size or size, strict=True)]
    steps = [o - i / s for o, i, s in zip(own, image.offset, size, strict=True)]
    if any(abs(step - round(step)) > OFFSET_TOLERANCE for step in steps):
        raise UserError(
            f"{_where(part)} and its image {_where(image)}: they are "
            f"{_shown(steps)} voxels apart, which must be whole numbers"
        )
    return tuple(round(step) for step in steps)


def one_sided_offset(part: Volume, image: Volume) -> str | None:
    """A warning if only one of two volumes has an offset, and that is not 0, else None."""
    one = next((volume for volume in (part, image) if volume.offset is not None), None)
    if one is None or (part.offset is None) == (image.offset is None) or not any(one.offset or ()):
        return None
    other = image if one is part else part
    return f"{_where(one)}, {other.location} has no offset: they are taken to lie on one another"


def check_on_grid(location: str, image: Volume, *, what: str) -> None:
    """Checks that a mask covers the image's voxels, in its order of axes.

    Args:
        location: of the mask; axes that its file does not name are those of the image.
        what: the key that names the mask, for messages.

    Raises:
        UserError: it has several channels, other axes or other voxels, or cannot be opened.
    """
    try:
        part = open_beside(location, image)
        if part.channels is not None:
            raise UserError(f"{location} has {part.channels} channels, a mask has none")
        if part.axes != image.axes:
            raise UserError(
                f"{part.location} has the axes {part.axes}, {image.location} {image.axes}"
            )
        begin = begins_at(part, image)
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
    if begin != (0, 0, 0) or part.shape != image.shape:
        raise UserError(
            f"{what}: {_where(part)} and has the shape {part.shape}, {_where(image)} and has the "
            f"shape {image.shape}: they must cover the same voxels"
        )


def common_region(regions: Iterable[Region]) -> Region | None:
    """The voxels that all regions (at least one) share, None if there are none."""
    firsts, stops = zip(*regions, strict=True)
    first = tuple(max(values) for values in zip(*firsts, strict=True))
    stop = tuple(min(values) for values in zip(*stops, strict=True))
    return (first, stop) if all(a < b for a, b in zip(first, stop, strict=True)) else None


def shown_region(region: Region) -> str:
    """The region as slices of its axes are written: "[0:16, 0:128, 0:128]"."""
    return "[" + ", ".join(f"{a}:{b}" for a, b in zip(*region, strict=True)) + "]"


def _check_sizes(part: Volume, image: Volume) -> None:
    known = [size for size in (image.voxel_size, image.stored_size) if size is not None]
    if part.voxel_size is None or not known:
        return
    if not any(_alike(part.voxel_size, size) for size in known):
        raise UserError(
            f"{part.location} has voxels of {_shown(part.voxel_size)} nm, its image "
            f"{image.location} of {_shown(known[0])} nm: they must be on one grid"
        )


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(abs(a - b) <= SIZE_TOLERANCE * max(a, b) for a, b in pairs)


def _where(volume: Volume) -> str:
    offset = "an unknown place" if volume.offset is None else f"{_shown(volume.offset)} nm"
    return f"{volume.location} begins at {offset}"


def _shown(numbers: Sequence[float]) -> str:
    return "[" + ", ".join(f"{number:.6g}" for number in numbers) + "]"
