"""Attributes as plain containers, and the facts of place in them: axes, voxel size, offset."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emseg.errors import UserError

# Nanometres in the units that OME-Zarr, OME-TIFF, ImageJ and HDF5 files name.
NANOMETRES = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns"), 1e3),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre"), 1e3),
    **dict.fromkeys(("å", "angstrom"), 0.1),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e6),
    **dict.fromkeys(("m", "meter", "metre"), 1e9),
}

# The names under which attributes say where a volume lies.
PLACE = ("axes", "resolution", "voxel_size", "offset", "unit", "units")


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings, numbers, booleans and None; TypeError for others."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, bytes):
        # Older files hold text of other encodings; a unit among them must not seem absent.
        return value.decode(errors="replace")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item) for key, item in value.items()}
    raise TypeError(f"an attribute cannot hold {value!r}: only strings, numbers, lists, dicts")


def resolve_axes(shape: Sequence[int], axes: Any, *, where: str) -> tuple[str, int | None]:
    """The spatial axes in stored order ("zyx") and the position of the channel axis or None.

    `axes` is a string or list of the letters z, y, x and, with channels, c; None is told by the
    shape: zyx when there are three axes. UserError when there are more, or letters do not fit.
    """
    if len(shape) not in (3, 4):
        raise UserError(
            f"{where} has {len(shape)} axes, shape {tuple(shape)}; "
            "a volume has three, or four with channels"
        )
    if axes is None and len(shape) == 4:
        raise UserError(
            f"{where} has four axes, shape {tuple(shape)}: name the channel axis, "
            "as in axes=czyx or axes=zyxc"
        )
    named = "zyx" if axes is None else axes
    letters = "".join(map(str, named)).lower() if isinstance(named, list) else str(named).lower()
    if sorted(letters) not in (list("xyz"), list("cxyz")):
        raise UserError(
            f"axes '{letters}' of {where} must be the letters z, y and x in stored order, "
            "with c for a channel axis"
        )
    if len(letters) != len(shape):
        raise UserError(f"axes '{letters}' do not fit {where} of shape {tuple(shape)}")
    return letters.replace("c", ""), letters.index("c") if "c" in letters else None


def checked_voxel_size(values: Any, *, where: str) -> tuple[float, ...]:
    """The voxel size as three floats in nm; UserError unless they are positive and finite."""
    numbers = _three(values, "voxel size", where)
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise UserError(f"voxel size {list(numbers)} of {where} must be positive (nm)")
    return numbers


def stored_voxel_size(attributes: Mapping[str, Any], *, where: str) -> tuple[float, ...] | None:
    """The voxel size in nm and stored-axis order from `resolution` or `voxel_size`, or None.

    A unit beside it (`unit` or `units`) counts; without one, the numbers are nm.
    """
    values = attributes.get("resolution", attributes.get("voxel_size"))
    factors = _unit_factors(attributes)
    if values is None or factors is None:
        return None
    numbers = _three(values, "voxel size", where)
    return checked_voxel_size([n * f for n, f in zip(numbers, factors, strict=True)], where=where)


def stored_offset(attributes: Mapping[str, Any], *, where: str) -> tuple[float, ...] | None:
    """The position of the first voxel in nm and stored-axis order from `offset`, or None."""
    values = attributes.get("offset")
    factors = _unit_factors(attributes)
    if values is None or factors is None:
        return None
    return tuple(n * f for n, f in zip(_three(values, "offset", where), factors, strict=True))


def with_place(
    attributes: Mapping[str, Any],
    *,
    axes: str,
    voxel_size: Sequence[float] | None,
    offset: Sequence[float] | None,
) -> dict[str, Any]:
    """The attributes to store: `axes`, and `resolution` and `offset` (nm) where they are known.

    What the arguments say replaces the same facts in `attributes`, under any of their names.
    """
    stored = {key: plain(value) for key, value in attributes.items() if key not in PLACE}
    stored["axes"] = axes
    if voxel_size is not None:
        stored["resolution"] = list(checked_voxel_size(voxel_size, where="the volume"))
    if offset is not None:
        stored["offset"] = list(_three(offset, "offset", "the volume"))
    return stored


def _unit_factors(attributes: Mapping[str, Any]) -> list[float] | None:
    units = attributes.get("units", attributes.get("unit", "nm"))
    names = units if isinstance(units, list | tuple) else [units] * 3
    # In pixels, or a unit that is not known, the size in nm is not known.
    factors = [NANOMETRES[name] for name in map(str.lower, map(str, names)) if name in NANOMETRES]
    return factors if len(factors) == len(names) == 3 else None


def _three(values: Any, what: str, where: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} {values!r} of {where} must be three numbers (nm)") from error
    if len(numbers) != 3:
        raise UserError(f"{what} {list(numbers)} of {where} must be three numbers (nm)")
    return numbers
