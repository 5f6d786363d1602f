"""Voxels of the truth near its borders, which some evaluations leave out."""

from math import floor, sqrt
from typing import Literal

import numpy as np

from emseg.errors import UserError, unknown_name
from emseg.kernels.marked_pixels import spread


def border_mask(
    truth: np.ndarray, *, mode: Literal["edt", "square"], distance: float
) -> np.ndarray:
    """Where the truth is too near to a border to be counted: bool (Z, Y, X).

    Each section (axis 0) by itself: a border pixel has a neighbour (of four in the section) with
    another id. A section of one id has no border, and nothing is left out.

    Args:
        truth: (Z, Y, X).
        mode: `edt` for the pixels whose Euclidean distance to a border pixel is `distance` or less,
            as in CREMI's evaluation; `square` for those in the square of 2 distance + 1 pixels
            around a border pixel, as in dbMiM's.
        distance: pixels (CREMI's threshold in nm / the pixel size), 0 or more; a whole number for
            `square`. 0 leaves out one pixel on each side of a border.

    Raises:
        UserError: another mode, or the distance is out of range.
    """
    if mode not in ("edt", "square"):
        raise unknown_name("mode", mode, ("edt", "square"), where="border_mask")
    if distance < 0 or (mode == "square" and distance != floor(distance)):
        allowed = "0 or more" if mode == "edt" else "a whole number of 0 or more"
        raise UserError(f"border_mask: distance {distance} is out of range, it must be {allowed}")
    rows = range(floor(distance) + 1)
    if mode == "square":
        reaches = [floor(distance) for _ in rows]
    else:
        reaches = [_columns(distance, row) for row in rows]
    return spread(_borders(truth), np.array(reaches, np.int64))


def _columns(distance: float, row: int) -> int:
    """How many columns away a pixel `row` rows away may be to be within the distance."""
    return max(x for x in range(floor(distance) + 1) if sqrt(x * x + row * row) <= distance)


def _borders(truth: np.ndarray) -> np.ndarray:
    border = np.zeros(truth.shape, np.bool_)
    for axis in (1, 2):
        ids, marks = np.moveaxis(truth, axis, 0), np.moveaxis(border, axis, 0)
        other = ids[1:] != ids[:-1]
        marks[1:] |= other
        marks[:-1] |= other
    return border
