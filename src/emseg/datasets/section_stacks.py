"""Finds stacks of section images anywhere in a folder, and reads them as images or ids."""

from pathlib import Path

import numpy as np

from emseg.errors import UserError
from emseg.volumes import Volume, open_volume
from emseg.volumes.location import require_regular
from emseg.volumes.sections import group_by_number, is_section

# The number of compared sections; more give the same order.
_LOOKED_AT = 6


def find_stacks(folder: Path) -> dict[str, Volume]:
    """The stacks below a folder, by the common part of their file names.

    A stack is a TIFF of several pages, or images of one folder that differ in a number.

    Raises:
        UserError: images of a stack are broken or differ in shape or type, or a number between its
            first and last is missing.
    """
    by_folder: dict[Path, list[str]] = {}
    stacks = {}
    for file in sorted(file for file in folder.rglob("*") if is_section(file.name)):
        if "__MACOSX" in file.parts:
            continue
        require_regular(file)
        pages = open_volume(file) if file.suffix.lower() in (".tif", ".tiff") else None
        if pages is not None and pages.shape[0] > 1:
            stacks[str(file.relative_to(folder))] = pages
        else:
            by_folder.setdefault(file.parent, []).append(file.name)
    for parent, names in by_folder.items():
        for common in group_by_number(names):
            name = str((parent / common).relative_to(folder))
            if "*" in common:
                stacks[name] = volume = open_volume(f"{parent}:{common}")
                for missing in volume.attributes.get("missing_sections", ()):
                    raise UserError(f"{name}: section {missing} is missing")
    return stacks


def grey(volume: Volume, section: int) -> np.ndarray:
    """Grey values (Y, X), uint8, of a section, which may be a grey colour image."""
    found = _pixels(volume, section)
    if found.ndim == 3 and (found == found[0]).all():
        found = found[0]
    if found.ndim != 2 or found.dtype != np.uint8:
        kind = "colours" if found.ndim == 3 else found.dtype
        raise UserError(f"{volume.location} holds {kind}: an image is grey, uint8")
    return found


def ids(volume: Volume, section: int) -> np.ndarray:
    """Ids (Y, X), uint32, of a section: its numbers, or for colours red 2^16 + green 2^8 + blue."""
    found = _pixels(volume, section)
    if found.dtype.kind not in "iu" or (found.ndim == 3 and found.dtype != np.uint8):
        raise UserError(f"{volume.location} holds {found.dtype}: labels are integers")
    if found.min() < 0:
        raise UserError(f"{volume.location} holds {found.min()}: ids are positive")
    if found.ndim == 2:
        return found.astype(np.uint32)
    red, green, blue = found.astype(np.uint32)
    return (red << 16) | (green << 8) | blue


def contrasts(images: Volume, labels: Volume) -> tuple[float, float]:
    """The contrast of label borders in grey values, in the given order and in the reverse one.

    The mean over a few sections from the first third, where orders differ most.
    """
    depth = images.shape[0]
    chosen = np.unique(np.linspace(0, (depth - 1) // 3, _LOOKED_AT).astype(int)).tolist()
    found = [
        [_contrast(grey(images, z), ids(labels, at)) for at in (z, depth - 1 - z)] for z in chosen
    ]
    forward, backward = np.mean(found, axis=0).tolist()
    return forward, backward


def _contrast(image: np.ndarray, labels: np.ndarray) -> float:
    border = labels[:, 1:] != labels[:, :-1]
    if border.all() or not border.any():
        return 0.0
    values = image[:, 1:].astype(np.float64)
    return float(abs(values[border].mean() - values[~border].mean()))


def _pixels(volume: Volume, section: int) -> np.ndarray:
    found = volume.read((section, 0, 0), (section + 1, *volume.shape[1:]))
    return found[..., 0, :, :]
