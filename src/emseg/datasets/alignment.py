"""The record of a re-alignment: where each section of an aligned stack was in the original one."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emseg.errors import UserError, unknown_name
from emseg.volumes.atomic import replacing
from emseg.volumes.location import require_regular

# The least factor of a pixel's area, so that a section does not become a line.
SMALLEST_AREA = 1e-6
IDENTITY = ((1.0, 0.0), (0.0, 1.0))


@dataclass(frozen=True)
class Placed:
    """Where a section of the aligned stack was: the original's section, and the transform to it.

    The pixel p = (y, x) of the aligned section shows the point `matrix` p + `shift` of the
    original's; positions are those of pixel centres, the first one is (0, 0).
    """

    section: int
    shift: tuple[float, float]
    matrix: tuple[tuple[float, float], tuple[float, float]] = IDENTITY

    def __post_init__(self) -> None:
        if not abs(self.area) >= SMALLEST_AREA:
            raise UserError(f"the matrix {[*map(list, self.matrix)]} cannot be inverted")

    @property
    def area(self) -> float:
        """The factor of a pixel's area, negative for a mirror image."""
        (a, b), (c, d) = self.matrix
        return a * d - b * c


@dataclass(frozen=True)
class Alignment:
    """The sections of an aligned stack in order; `shape` (Z, Y, X) is that of the original.

    UserError if a section is not in the original, or two show the same one.
    """

    shape: tuple[int, int, int]
    sections: tuple[Placed, ...]

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise UserError(f"'shape' is {list(self.shape)}: three sizes of 1 or more, z, y, x")
        first: dict[int, int] = {}
        for at, placed in enumerate(self.sections):
            if not 0 <= placed.section < self.shape[0]:
                raise UserError(
                    f"sections[{at}] shows section {placed.section} of an original that has "
                    f"{self.shape[0]} (from 0)"
                )
            if first.setdefault(placed.section, at) != at:
                raise UserError(
                    f"sections[{first[placed.section]}] and sections[{at}] both show section "
                    f"{placed.section} of the original"
                )


def read_alignment(path: str | Path) -> Alignment:
    """The alignment in a JSON file.

    `{"shape": [z, y, x], "sections": [...]}` with an entry for each section of the aligned stack:
    `{"section": k, "shift": [dy, dx]}` or `{"section": k, "affine": [[a, b, dy], [c, d, dx]]}`,
    where (y, x) of the aligned section is (a y + b x + dy, c y + d x + dx) in section k.

    Raises:
        UserError: the file is anything else; the message names the entry.
    """
    path = Path(path)
    try:
        require_regular(path)
        record = json.loads(path.read_text())
    except (UserError, OSError) as error:
        raise UserError(f"cannot read the alignment {path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"the alignment {path} is not JSON: {error}") from error
    try:
        _check_keys(record, ("shape", "sections"), "the record")
        shape = _numbers(record["shape"], (3,), "'shape'", whole=True).tolist()
        if not isinstance(record["sections"], list):
            raise UserError("'sections' is to be a list, with an entry for each aligned section")
        sections = [
            _placed(entry, f"sections[{at}]") for at, entry in enumerate(record["sections"])
        ]
        return Alignment(tuple(shape), tuple(sections))
    except UserError as error:
        raise UserError(f"the alignment {path}: {error}") from error


def write_alignment(path: str | Path, alignment: Alignment) -> None:
    """Writes the record that `read_alignment` reads, whole or not at all."""
    entries: list[dict[str, Any]] = []
    for placed in alignment.sections:
        rows = [[*row, d] for row, d in zip(placed.matrix, placed.shift, strict=True)]
        way = {"shift": placed.shift} if placed.matrix == IDENTITY else {"affine": rows}
        entries.append({"section": placed.section, **way})
    with replacing(Path(path)) as partial:
        partial.write_text(json.dumps({"shape": alignment.shape, "sections": entries}, indent=1))


def realign(
    stack: np.ndarray, alignment: Alignment, *, size: tuple[int, int], fill: int = 0
) -> np.ndarray:
    """The aligned stack (N, *size) of an original (Z, Y, X), by nearest neighbour.

    Pixels from outside are `fill`. ValueError unless the original has the record's shape.
    """
    if stack.shape != alignment.shape:
        raise ValueError(f"an original of {stack.shape} is not the record's {alignment.shape}")
    aligned = np.empty((len(alignment.sections), *size), stack.dtype)
    y, x = np.ogrid[: size[0], : size[1]]
    for out, placed in zip(aligned, alignment.sections, strict=True):
        (a, b), (c, d) = placed.matrix
        dy, dx = placed.shift
        rows, columns = a * y + b * x + dy, c * y + d * x + dx
        out[...] = _nearest(stack[placed.section], rows, columns, fill)
    return aligned


def restore(
    labels: np.ndarray, alignment: Alignment, start: int, stop: int, *, fill: int = 0
) -> np.ndarray:
    """Sections `start` to `stop` of the original (n, Y, X) for labels (N, Y', X') of the aligned.

    Each pixel gets the label nearest to its new position, so that there are no gaps; `fill`
    outside, and in sections that are not shown. ValueError unless there is a section for each one.
    """
    if len(labels) != len(alignment.sections):
        raise ValueError(f"{len(labels)} sections are not the record's {len(alignment.sections)}")
    restored = np.full((stop - start, *alignment.shape[1:]), fill, labels.dtype)
    y, x = np.ogrid[: alignment.shape[1], : alignment.shape[2]]
    for section, placed in zip(labels, alignment.sections, strict=True):
        if start <= placed.section < stop:
            # The inverse written out: exact for shifts, flips and quarter turns.
            (a, b), (c, d) = placed.matrix
            v, u = y - placed.shift[0], x - placed.shift[1]
            rows, columns = (d * v - b * u) / placed.area, (a * u - c * v) / placed.area
            restored[placed.section - start] = _nearest(section, rows, columns, fill)
    return restored


def _nearest(section: np.ndarray, rows: np.ndarray, columns: np.ndarray, fill: int) -> np.ndarray:
    # A position midway between two pixels belongs to the next one.
    at = np.floor(rows + 0.5), np.floor(columns + 0.5)
    inside = np.logical_and(*((a >= 0) & (a < n) for a, n in zip(at, section.shape, strict=True)))
    found = np.full(inside.shape, fill, section.dtype)
    found[inside] = section[tuple(a[inside].astype(np.intp) for a in at)]
    return found


def _placed(entry: Any, where: str) -> Placed:
    way = "affine" if isinstance(entry, dict) and "affine" in entry else "shift"
    _check_keys(entry, ("section", way), where, others=("shift", "affine"))
    section = int(_numbers(entry["section"], (), f"'section' of {where}", whole=True))
    if way == "shift":
        dy, dx = _numbers(entry[way], (2,), f"'shift' of {where}").tolist()
        return Placed(section, (dy, dx))
    (a, b, dy), (c, d, dx) = _numbers(entry[way], (2, 3), f"'affine' of {where}").tolist()
    try:
        return Placed(section, (dy, dx), ((a, b), (c, d)))
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _check_keys(
    record: Any, needed: Collection[str], where: str, others: Collection[str] = ()
) -> None:
    if not isinstance(record, dict):
        names = " and ".join(map(repr, needed))
        raise UserError(f"{where} must be an object with {names}, not {json.dumps(record)}")
    for key in record:
        if key not in needed:
            raise unknown_name("key", key, {*needed, *others}, where=where)
    for key in needed:
        if key not in record:
            raise UserError(f"{where} lacks '{key}'")


def _numbers(value: Any, shape: tuple[int, ...], what: str, *, whole: bool = False) -> np.ndarray:
    """The finite numbers as an array of this shape."""
    try:
        found = np.array(value)
    except ValueError:  # ragged
        found = np.array(None)
    if found.shape != shape or found.dtype.kind not in ("i" if whole else "if"):
        kind = "whole number" if whole else "number"
        wanted = " x ".join(map(str, shape)) + f" {kind}s" if shape else f"a {kind}"
        raise UserError(f"{what} must be {wanted}, not {json.dumps(value)}")
    if not np.isfinite(found).all():
        raise UserError(f"{what} must be finite, not {json.dumps(value)}")
    return found
