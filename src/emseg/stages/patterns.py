"""Patterns of files in `data`: one volume per file, with its label and mask."""

import glob
import re
from dataclasses import replace
from pathlib import Path

from emseg.config.schema_data import VolumeConfig
from emseg.errors import UserError
from emseg.volumes.formats import open_source
from emseg.volumes.location import PICTURES, is_url, parse_location

# File stems that do not describe the file; the name of the folder above is used instead.
TELLING_NOTHING = {"img", "image", "raw", "em", "main", "data", "volume"}


def expand(key: str, volume: VolumeConfig, split: str) -> list[tuple[str, VolumeConfig]]:
    """The volume with its key; for a glob one per file, with key and file name as its key."""
    root = volume.path or ""
    image = _below(root, volume.image)
    label = volume.label and _below(root, volume.label)
    mask = volume.mask and _below(root, volume.mask)
    skeletons = volume.skeletons and _below(root, volume.skeletons)
    whole = replace(volume, path=None, image=image, label=label, mask=mask, skeletons=skeletons)
    if not _is_pattern(image):
        return [(key, whole)]
    images = _found(image)
    if len(images) > 1 and _is_section(images[0]):
        path = Path(image)
        raise UserError(
            f"data.{split}: {image} matches {len(images)} images of one section each: as one "
            f"volume they are '{path.parent}:{path.name}', a folder and a pattern of its images"
        )
    if not images:
        raise UserError(f"data.{split}: no file matches {image}")
    if volume.name is not None and len(images) > 1:
        raise UserError(
            f"data.{split}.name: '{volume.name}' for the {len(images)} files of {image}"
        )
    if skeletons is not None and len(images) > 1:
        raise UserError(
            f"data.{split}.skeletons: {skeletons} for the {len(images)} files of {image}"
        )
    labels, masks = (_matches(one, image, images, split) for one in (label, mask))
    return [
        (key and f"{key}_{image_name(one)}", replace(whole, image=one, label=label, mask=mask))
        for one, label, mask in zip(images, labels, masks, strict=True)
    ]


def _is_section(location: str) -> bool:
    if location.lower().endswith(PICTURES):
        return True
    found = parse_location(location)
    return found.format == "tiff" and len(open_source(found).shape) == 2


def _below(root: str, location: str) -> str:
    if is_url(location):
        return location
    return f"{root.rstrip('/')}/{location}" if is_url(root) else str(Path(root) / location)


def _is_pattern(location: str) -> bool:
    if is_url(location):
        return False
    if location.lower().endswith(PICTURES):
        return glob.has_magic(location) and not Path(location.partition(":")[0]).is_dir()
    path = parse_location(location).path
    return glob.has_magic(str(path)) and not path.exists()


def _matches(pattern: str | None, image: str, images: list[str], split: str) -> list[str | None]:
    """The matching file of the pattern for each of the images, found by the pattern `image`."""
    if pattern is None:
        return [None] * len(images)
    found: list[str | None] = [*_found(pattern)]
    if len(found) != len(images):
        raise UserError(
            f"data.{split}: {len(images)} images, but {len(found)} files match {pattern}"
        )
    for one, other in zip(images, found, strict=True):
        ours, theirs = _wild_parts(image, one), _wild_parts(pattern, str(other))
        # Patterns with wildcards in different places cannot be compared.
        if len(ours) == len(theirs) and ours != theirs:
            raise UserError(
                f"data.{split}: {one} would go with {other}: the files of {image} and {pattern} "
                "are not of the same names"
            )
    return found


def _wild_parts(pattern: str, name: str) -> tuple[str, ...]:
    """The part of the name for each *, ? and [...] of the pattern that found it."""
    pieces = re.split(r"(\*+|\?|\[!?[^\]]+\])", str(parse_location(pattern).path))
    match = re.fullmatch(
        "".join("(.*)" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces)),
        str(parse_location(name).path),
    )
    return match.groups() if match else ()


def _found(pattern: str) -> list[str]:
    if pattern.lower().endswith(PICTURES):
        return sorted(glob.glob(pattern))  # noqa: PTH207
    # The key inside a file (`vol_*.h5:raw`) is not part of the file's name.
    location = parse_location(pattern)
    files = sorted(glob.glob(str(location.path)))  # noqa: PTH207
    if location.format == "sections":
        files = [file for file in files if Path(file).is_dir()]
    return [str(replace(location, path=Path(file))) for file in files]


def image_name(image: str) -> str:
    """The stem of the image's file or, if not descriptive, the nearest descriptive folder above."""
    path = Path(parse_location(image).path).absolute()
    names = [path.stem, *(folder.name for folder in path.parents)]
    return next((name for name in names if name and name.lower() not in TELLING_NOTHING), path.stem)
