"""Folders of section images: one volume, its sections in the order of their numbers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from emseg.errors import UserError, unknown_name
from emseg.volumes.location import PICTURES
from emseg.volumes.source import StoredSource

SUFFIXES = (*PICTURES, ".tif", ".tiff")
_DIGITS = re.compile(r"(\d+)")
# Modes of Pillow with one number per pixel.
_GREY = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")
# Most names that an error lists.
_LISTED = 6


class SectionFolder(StoredSource):
    """The section images of a folder as one array (z, y, x), or (z, y, x, c) for colours.

    `key` is the pattern of their names, "" for all. `attributes` list the numbers that are missing.
    """

    def __init__(self, folder: Path, key: str) -> None:
        pattern, self._files = _chosen(folder, key)
        super().__init__(folder, pattern)
        first = _header(self._files[0])
        for file in self._files[1:]:
            other = _header(file)
            if other != first:
                raise UserError(
                    f"'{file}' is {other[1]} {other[0]}, '{self._files[0].name}' beside it "
                    f"{first[1]} {first[0]}: the sections of a stack are of one shape and type"
                )
        self.shape = (len(self._files), *first[0])
        self.dtype = np.dtype(first[1])
        self.named_axes = {"images": ["z", "y", "x", "c"]} if len(first[0]) == 3 else {}
        missing = _gaps(self._files)
        self.attributes = {"missing_sections": missing} if missing else {}

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        sections, *inner = region
        out = np.empty([part.stop - part.start for part in region], self.dtype)
        for place, file in zip(out, self._files[sections], strict=True):
            place[...] = _pixels(file)[tuple(inner)]
        return out

    def files(self) -> list[Path]:
        """Its images, in the order of the sections."""
        return self._files


def is_section(name: str) -> bool:
    """Whether a file's name is that of a section image; those of hidden files are not."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def group_by_number(names: Iterable[str]) -> dict[str, dict[int, str]]:
    """The names, grouped by their common part, and in each group by their number.

    A name's number is the only one in which it differs from others alike, else its last.

    Returns:
        Groups by the common part, in which * stands for the number; a name without a number is
        a group of its own, with the number 0.

    Raises:
        UserError: two names have the same number.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_DIGITS.sub("0", name), []).append(name)
    groups: dict[str, dict[int, str]] = {}
    for members in alike.values():
        parts = [_DIGITS.split(name) for name in members]
        varying = [at for at in range(1, len(parts[0]), 2) if len({part[at] for part in parts}) > 1]
        last = len(parts[0]) - 2 if len(parts[0]) > 1 else None
        number = varying[0] if len(varying) == 1 else last
        for name, part in zip(members, parts, strict=True):
            if number is None:
                groups[name] = {0: name}
                continue
            common = "".join([*part[:number], "*", *part[number + 1 :]])
            group = groups.setdefault(common, {})
            other = group.setdefault(int(part[number]), name)
            if other != name:
                raise UserError(f"'{other}' and '{name}' are both section {int(part[number])}")
    return groups


def missing_numbers(numbered: Mapping[int, str]) -> list[int]:
    """The numbers that are missing between the first and the last."""
    return [number for number in range(min(numbered), max(numbered)) if number not in numbered]


def _chosen(folder: Path, key: str) -> tuple[str, list[Path]]:
    """The pattern of the stack that `key` means, and its files in order."""
    names = sorted(entry.name for entry in folder.iterdir() if is_section(entry.name))
    if not names:
        raise UserError(
            f"'{folder}' is a folder without section images ({', '.join(SUFFIXES)}), and no volume"
        )
    if key:
        matching = [name for name in names if name == key or fnmatch(name, key)]
        if not matching:
            raise unknown_name("section images", key, _shown(names), where=f"'{folder}'")
        return key, [folder / name for name in sorted(matching, key=_natural)]
    groups = group_by_number(names)
    if len(groups) > 1:
        listed = _shown(sorted(groups))
        raise UserError(
            f"'{folder}' holds several stacks of sections; name one as '{folder}:{listed[0]}' "
            f"(there are: {', '.join(listed)})"
        )
    ((common, numbered),) = groups.items()
    return common, [folder / numbered[number] for number in sorted(numbered)]


def _shown(names: Sequence[str]) -> list[str]:
    return [*names[:_LISTED], *(["..."] if len(names) > _LISTED else [])]


def _natural(name: str) -> list[tuple[int, str]]:
    parts = _DIGITS.split(name)
    return [(int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)]


def _gaps(files: Sequence[Path]) -> list[int]:
    """The numbers that are missing in the names of a stack, if they number sections."""
    groups = group_by_number(file.name for file in files).values()
    return [number for group in groups for number in missing_numbers(group)]


def _header(file: Path) -> tuple[tuple[int, ...], str]:
    """Shape and type of an image, without reading its pixels."""
    if file.suffix.lower() not in PICTURES:
        from emseg.volumes.tiff import page_header

        return page_header(file)
    with _picture(file) as image:
        size = (image.height, image.width)
        if image.mode in _GREY:
            kind = {"1": "bool", "L": "uint8", "I": "int32", "F": "float32"}.get(image.mode)
            return size, kind or "uint16"
        return (*size, 3), "uint8"


def _pixels(file: Path) -> np.ndarray:
    if file.suffix.lower() not in PICTURES:
        from emseg.volumes.tiff import read_page

        return read_page(file)
    with _picture(file) as image:
        try:
            # Each image has its own palette: only the colours can be compared.
            return np.asarray(image if image.mode in _GREY else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"cannot read the image '{file}': {error}") from error


def _picture(file: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image '{file}': {error}") from error
