"""Volumes as images of their sections: found by their names, read one by one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np

from emseg.errors import UserError
from emseg.volumes.sections import group_by_number, is_section, missing_numbers

# Sections to tell an order by; more of them say the same.
_LOOKED_AT = 6

Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Stack:
    """The sections of a volume: images (file and page in it) in the order of their numbers."""

    name: str  # what the names of the files have in common
    pages: tuple[tuple[str, int], ...]
    read: Read

    def __len__(self) -> int:
        return len(self.pages)

    def image(self, section: int) -> np.ndarray:
        """Grey values (Y, X), uint8. UserError for other images; coloured ones may be grey, too."""
        found = self._decoded(section)
        if found.ndim == 3 and (found == found[..., :1]).all():
            found = found[..., 0]
        if found.ndim != 2 or found.dtype != np.uint8:
            kind = "colours" if found.ndim == 3 else found.dtype
            raise UserError(f"{self.pages[section][0]} holds {kind}: an image is grey, uint8")
        return found

    def ids(self, section: int) -> np.ndarray:
        """Ids (Y, X), uint32: grey values, or of a colour red 2^16 + green 2^8 + blue."""
        found = self._decoded(section)
        if found.dtype.kind not in "iu" or (found.ndim == 3 and found.dtype != np.uint8):
            raise UserError(f"{self.pages[section][0]} holds {found.dtype}: labels are integers")
        if found.ndim == 2:
            if found.size and found.min() < 0:
                raise UserError(f"{self.pages[section][0]} holds {found.min()}: ids are positive")
            return found.astype(np.uint32)
        red, green, blue = np.moveaxis(found.astype(np.uint32), 2, 0)
        return (red << 16) | (green << 8) | blue

    def _decoded(self, section: int) -> np.ndarray:
        """Pixels (Y, X), or (Y, X, 3) where they have colours."""
        from PIL import Image

        name, page = self.pages[section]
        try:
            with Image.open(BytesIO(self.read(name))) as image:
                image.seek(page)
                if image.mode in ("1", "P", "PA", "LA", "RGBA"):
                    # Palettes are each image's own, so that only colours mean the same in all.
                    image = image.convert("RGB")
                return np.asarray(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"cannot read the image {name}: {error}") from error


def find_stacks(names: Iterable[str], read: Read) -> list[Stack]:
    """The stacks among files: a TIFF of several pages, or images that differ in a number.

    UserError where a number between the first and the last of a stack is missing.
    """
    single: dict[PurePosixPath, dict[str, str]] = {}
    stacks = []
    for name in sorted(names):
        path = PurePosixPath(name)
        if not is_section(path.name) or "__MACOSX" in path.parts:
            continue
        pages = 1 if path.suffix.lower() == ".png" else _count_pages(name, read)
        if pages > 1:
            stacks.append(Stack(name, tuple((name, page) for page in range(pages)), read))
        else:
            single.setdefault(path.parent, {})[path.name] = name
    for folder, files in single.items():
        for common, numbered in group_by_number(files).items():
            if "*" in common:
                ordered = [files[one] for one in _without_gap(folder / common, numbered)]
                pages = tuple((name, 0) for name in ordered)
                stacks.append(Stack(str(folder / common), pages, read))
    return stacks


def _without_gap(common: PurePosixPath, numbered: dict[int, str]) -> list[str]:
    missing = missing_numbers(numbered)
    if missing:
        first, last = min(numbered), max(numbered)
        raise UserError(f"{common}: section {missing[0]} is missing of {first} to {last}")
    return [numbered[number] for number in sorted(numbered)]


def contrasts(images: Stack, labels: Stack) -> tuple[float, float]:
    """By how many grey values borders of labels stand out, in their order and in the reverse one.

    The mean over a few sections from the first third, where orders differ most.
    """
    depth = len(images)
    chosen = np.unique(np.linspace(0, (depth - 1) // 3, _LOOKED_AT).astype(int)).tolist()
    found = [
        [_contrast(images.image(z), labels.ids(at)) for at in (z, depth - 1 - z)] for z in chosen
    ]
    forward, backward = np.mean(found, axis=0).tolist()
    return forward, backward


def _contrast(image: np.ndarray, ids: np.ndarray) -> float:
    if image.shape != ids.shape:
        raise UserError(f"an image of {image.shape} pixels has labels of {ids.shape}")
    border = ids[:, 1:] != ids[:, :-1]
    if border.all() or not border.any():
        return 0.0
    grey = image[:, 1:].astype(np.float64)
    return float(abs(grey[border].mean() - grey[~border].mean()))


def _count_pages(name: str, read: Read) -> int:
    from PIL import Image

    try:
        with Image.open(BytesIO(read(name))) as image:
            return int(getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {name}: {error}") from error
