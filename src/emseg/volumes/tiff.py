"""TIFF stacks: mapped into memory when uncompressed, else decoded page by page on demand."""

import itertools
import logging
import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from emseg.errors import UserError
from emseg.volumes.attributes import NANOMETRES
from emseg.volumes.damage import one_line
from emseg.volumes.location import require_regular
from emseg.volumes.source import StoredSource

# Pages of more bytes have their size checked against the best compression, that of zeros.
LARGE_PAGE = 1 << 28
HIGHEST_COMPRESSION = 20_000


class TiffStack(StoredSource):
    """The images of a TIFF file as one array, opened lazily and anew in every process.

    These are its single series or, if it was written page by page, all its pages.
    """

    def __init__(self, path: Path, key: str) -> None:
        if key:
            raise UserError(f"'{path}' is a TIFF file: it holds no '{key}'")
        super().__init__(path, key)
        self._opened: tifffile.TiffFile | np.memmap | None = None
        self._process, self._lock = os.getpid(), threading.Lock()
        with _complaints(path), tifffile.TiffFile(path) as file:
            self._files = [path, *_other_files(file.ome_metadata, path)]
            series = file.series[0]
            # Pages that were appended, or compressed differently, are a series each.
            self._paged = len(file.series) > 1
            if self._paged:
                _check_alike(file, path)
                self.shape = (len(file.pages), *file.pages[0].shape)
                letters = "q" + file.pages[0].axes
            else:
                self.shape, letters = tuple(series.shape), series.axes
            self._mapped = not self._paged and _is_mappable(series)
            _check_whole(file, series, path, paged=self._paged)
            self.dtype = np.dtype(series.dtype)
            named = _named_axes(letters.lower(), self.shape, path)
            self.named_axes = {"metadata": named} if named else {}
            self.attributes = _resolution(file)
            if named:
                self.attributes["axes"] = named
            if not self._mapped:
                if not self._paged:
                    _check_strips(series.keyframe, path)
                _decode(file.pages[0] if self._paged else series.pages[0], path)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_lock": None}

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        # A file handle that crossed a fork shares its position with the parent, and a lock that
        # was held at the fork stays held.
        if self._opened is None or self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
            with one_line(f"cannot read '{self.path}'"):
                self._opened = self._open()
        with one_line(f"cannot read '{self.path}'"):
            if isinstance(self._opened, np.memmap):
                return np.array(self._opened[region])
            with self._lock:
                return self._read_pages(self._opened, region)

    def files(self) -> list[Path]:
        """The files that it reads from, its own first."""
        return self._files

    def _open(self) -> tifffile.TiffFile | np.memmap:
        if self._mapped:
            return tifffile.memmap(self.path, mode="r")
        return tifffile.TiffFile(self.path)

    def _read_pages(self, file: tifffile.TiffFile, region: tuple[slice, ...]) -> np.ndarray:
        pages = file.pages if self._paged else file.series[0].pages
        depth = len(self.shape) - len(file.pages[0].shape)
        leading, inner = region[:depth], region[depth:]
        out = np.empty([part.stop - part.start for part in region], self.dtype)
        for index in itertools.product(*(range(part.start, part.stop) for part in leading)):
            number = int(np.ravel_multi_index(index, self.shape[:depth])) if depth else 0
            place = tuple(i - part.start for i, part in zip(index, leading, strict=True))
            out[place] = _decode(pages[number], self.path)[inner]
        return out


def page_header(path: Path) -> tuple[tuple[int, ...], str]:
    """Shape (Y, X) or (Y, X, C) and type of a TIFF with one page; a UserError for others."""
    with _complaints(path), tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if len(file.pages) > 1 or page.axes not in ("YX", "YXS"):
            raise UserError(
                f"'{path}' holds {len(file.pages)} pages of {page.axes.lower()}: a folder of "
                "sections has one image in each file; a stack is named as a file"
            )
        return tuple(page.shape), str(page.dtype)


def read_page(path: Path) -> np.ndarray:
    """The one image of a TIFF, (Y, X) or (Y, X, C)."""
    with _complaints(path), tifffile.TiffFile(path) as file:
        return _decode(file.pages[0], path)


@contextmanager
def _complaints(path: Path) -> Iterator[None]:
    # tifffile logs a broken chain of pages and goes on with the pages before the break.
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # A damaged file breaks the parser anywhere.
        raise UserError(f"cannot open '{path}' as TIFF: {error}") from error
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    broken = ("invalid page offset", "invalid value offset", "corrupted")
    if any(sign in record for record in records for sign in broken):
        raise _truncated(path)


def _truncated(path: Path) -> UserError:
    return UserError(f"'{path}' is truncated or damaged: pages are missing; fetch it again")


def _check_alike(file: tifffile.TiffFile, path: Path) -> None:
    """Raises UserError unless all pages of the file are sections of one stack."""
    if file.is_ome:
        shapes = ", ".join(str(tuple(series.shape)) for series in file.series)
        raise UserError(f"'{path}' holds {len(file.series)} images ({shapes}), not one stack")
    kinds = {(tuple(page.shape), str(page.dtype)): page.index for page in reversed(file.pages)}
    if len(kinds) > 1:
        (one, first), (other, second) = sorted(kinds.items(), key=lambda kind: kind[1])[:2]
        raise UserError(
            f"'{path}' holds pages of several kinds, {one[1]} {one[0]} (page {first}) and "
            f"{other[1]} {other[0]} (page {second}): the sections of a stack are of one shape and "
            "type; save them anew as one stack"
        )


def _is_mappable(series: tifffile.TiffPageSeries) -> bool:
    return series.dataoffset is not None and series.keyframe.is_memmappable


def _check_whole(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path, *, paged: bool
) -> None:
    last = file.pages[-1] if paged else series.pages[-1]
    ends = [o + n for o, n in zip(last.dataoffsets, last.databytecounts, strict=True)]
    if series.dataoffset is not None and not paged:
        ends.append(series.dataoffset + series.nbytes)
    if max(ends, default=0) > path.stat().st_size:
        raise _truncated(path)


def _check_strips(page: tifffile.TiffPage, path: Path) -> None:
    # With millions of missing strips tifffile would work on one page for hours.
    if math.prod(page.chunked) > len(page.dataoffsets):
        raise _truncated(path)
    stored = sum(page.databytecounts)
    if page.nbytes > LARGE_PAGE and page.nbytes > HIGHEST_COMPRESSION * stored:
        raise UserError(f"'{path}' is damaged: {stored} bytes cannot be a page of {page.shape}")


def _decode(page: tifffile.TiffPage | tifffile.TiffFrame, path: Path) -> np.ndarray:
    try:
        return page.asarray()
    except Exception as error:  # Codecs raise classes of their own.
        packing = page.keyframe.compression
        if packing != tifffile.COMPRESSION.NONE:
            try:
                import imagecodecs  # noqa: F401
            except ImportError:
                name = getattr(packing, "name", packing)
                raise UserError(
                    f"cannot decode '{path}': its compression, {name}, needs imagecodecs, which "
                    "cannot be imported: pip install imagecodecs"
                ) from error
        raise UserError(f"cannot decode '{path}': {error}") from error


def _named_axes(letters: str, shape: tuple[int, ...], path: Path) -> list[str] | None:
    """The axis names in the file, or None: y and x are only rows and columns of its pages."""
    if len(letters) < 4 and "s" in letters:
        raise UserError(f"'{path}' is one colour image of shape {shape}, not a stack")
    named = list(letters.replace("s", "c"))
    if len(letters) == 4 and letters.endswith("yxs"):
        return ["z", *named[1:]]
    # The sections of a stack may be stored along z, time, channel or an unnamed axis.
    return named if "z" in letters else None


def _resolution(file: tifffile.TiffFile) -> dict[str, Any]:
    # Only ImageJ's and OME's metadata give the distance between sections.
    if file.is_imagej:
        size = _imagej_size(file.imagej_metadata, file.pages[0].tags)
    elif file.is_ome:
        size = _ome_size(tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"])
    else:
        size = None
    return {"resolution": size} if size else {}


def _imagej_size(metadata: dict[str, Any], tags: tifffile.TiffTags) -> list[float] | None:
    factor = NANOMETRES.get(str(metadata.get("unit", "")).lower())
    pixels = [tags[name].value for name in ("YResolution", "XResolution") if name in tags]
    if factor is None or "spacing" not in metadata or len(pixels) != 2:
        return None
    if not all(number > 0 for number in (metadata["spacing"], *pixels[0], *pixels[1])):
        return None
    return [metadata["spacing"] * factor] + [factor * per / count for count, per in pixels]


def _ome_size(pixels: dict[str, Any]) -> list[float] | None:
    size = []
    for axis in "ZYX":
        factor = NANOMETRES.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")).lower())
        if factor is None or f"PhysicalSize{axis}" not in pixels:
            return None
        size.append(float(pixels[f"PhysicalSize{axis}"]) * factor)
    return size


def _other_files(metadata: str | None, path: Path) -> list[Path]:
    """The other files that the OME metadata (XML) of `path` names for planes, each once.

    UserError for a missing one: its planes would be missing too.
    """
    if not metadata:
        return []
    root = ElementTree.fromstring(metadata)
    own = root.get("UUID")
    found: dict[Path, None] = {}
    for element in root.iter():
        name = element.get("FileName") if element.tag.endswith("UUID") else None
        # A renamed file still has its own UUID.
        if name is None or element.text == own or path.name == name:
            continue
        other = path.parent / name
        try:
            require_regular(other)
        except UserError as error:
            raise UserError(f"'{path}' has planes in another file: {error}") from error
        found[other] = None
    return [*found]
