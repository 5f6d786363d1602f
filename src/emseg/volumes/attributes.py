"""Attributes as plain containers, and the position that they give: voxel size and offset."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emseg.errors import UserError
from emseg.volumes.axes import NAMING

# The stored number of each spatial axis, None where it is not stored.
Order = Sequence[int | None]

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
PLACE = (*NAMING, "resolution", "voxel_size", "element_size_um", "offset", "unit", "units")


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings, numbers, booleans and None.

    Args:
        value: one of these, or with numpy's numbers and arrays, bytes (UTF-8), tuples or mappings.

    Raises:
        TypeError: it contains another type, or keys that are not strings.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, bytes):
        # Older files hold text in other encodings; a unit in such a text must not seem absent.
        return value.decode(errors="replace")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item) for key, item in value.items()}
    raise TypeError(f"an attribute cannot hold {value!r}: only strings, numbers, lists, dicts")


def checked_voxel_size(values: Any, *, where: str) -> tuple[float, ...]:
    """The voxel size as three floats in nm; UserError unless they are positive and finite."""
    numbers = _three(values, "voxel size", where)
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise UserError(f"voxel size {list(numbers)} of {where} must be positive (nm)")
    return numbers


def stored_voxel_size(
    attributes: Mapping[str, Any], *, where: str, order: Order = (0, 1, 2)
) -> tuple[float, ...] | None:
    """The voxel size in nm and stored-axis order, None if it is not stored or in an unknown unit.

    Args:
        attributes: `resolution` or `voxel_size` (in nm, or the `unit` or `units` beside them),
            ImageJ's `element_size_um`, or the `scale` of COSEM's `transform`; of the spatial axes,
            or of all.
        where: the file, for messages.
        order: the stored number of each spatial axis, None for one that is not stored.

    Raises:
        UserError: it is not three positive, finite numbers.
    """
    values, units = _place_values(
        attributes, ("resolution", "voxel_size", "element_size_um"), "scale"
    )
    numbers = _in_nanometres(values, units, "voxel size", order, where)
    return None if numbers is None else checked_voxel_size(numbers, where=where)


def stored_offset(
    attributes: Mapping[str, Any], *, where: str, order: Order = (0, 1, 2)
) -> tuple[float, ...] | None:
    """The first voxel's position in nm and stored-axis order, None as for `stored_voxel_size`.

    Args:
        attributes: `offset`, or the `translate` of COSEM's `transform`, with units likewise.
        where, order: as for `stored_voxel_size`.

    Raises:
        UserError: it is not three finite numbers.
    """
    values, units = _place_values(attributes, ("offset",), "translate")
    numbers = _in_nanometres(values, units, "offset", order, where)
    if numbers is not None and not all(map(math.isfinite, numbers)):
        raise UserError(f"offset {list(numbers)} of {where} must be finite (nm)")
    return numbers


def with_place(
    attributes: Mapping[str, Any],
    *,
    axes: str,
    voxel_size: Sequence[float] | None,
    offset: Sequence[float] | None,
) -> dict[str, Any]:
    """The attributes to store: `axes`, and `resolution` and `offset` (nm) if they are known.

    The arguments replace the same facts in `attributes`, under any of their names.
    """
    stored = {key: plain(value) for key, value in attributes.items() if key not in PLACE}
    stored["axes"] = axes
    if voxel_size is not None:
        stored["resolution"] = list(checked_voxel_size(voxel_size, where="the volume"))
    if offset is not None:
        stored["offset"] = list(_three(offset, "offset", "the volume"))
    return stored


def _place_values(
    attributes: Mapping[str, Any], names: Sequence[str], in_transform: str
) -> tuple[Any, Any]:
    """The numbers under the first of the names that exists, and their units."""
    for name in names:
        if attributes.get(name) is not None:
            if name.endswith("_um"):
                return attributes[name], "um"
            return attributes[name], attributes.get("units", attributes.get("unit", "nm"))
    transform = attributes.get("transform")
    if not isinstance(transform, Mapping) or transform.get(in_transform) is None:
        return None, None
    values, units = transform[in_transform], transform.get("units", "nm")
    if transform.get("ordering") == "F":
        values, units = (v[::-1] if isinstance(v, list) else v for v in (values, units))
    return values, units


def _in_nanometres(
    values: Any, units: Any, what: str, order: Order, where: str
) -> tuple[float, ...] | None:
    if values is None:
        return None
    stored = [axis for axis in order if axis is not None]
    if len(stored) == 2 and _count(values) == 2:
        return None  # Of a section without a depth.
    spatial = _spatial(values, order)
    names = [units] * 3 if isinstance(units, str) else units
    names = _spatial(names, order) if isinstance(names, list | tuple) else []
    # In pixels, or in an unknown unit, the size in nm is unknown.
    factors = [NANOMETRES[name] for name in map(str.lower, map(str, names)) if name in NANOMETRES]
    if not len(factors) == len(names) == 3:
        return None
    numbers = _three(spatial, what, where)
    return tuple(n * f for n, f in zip(numbers, factors, strict=True))


def _spatial(values: Any, order: Order) -> Any:
    """The values of the spatial axes, if there is one value for each stored axis."""
    stored = [axis for axis in order if axis is not None]
    return values if _count(values) <= max(3, *stored) else [values[axis] for axis in stored]


def _count(values: Any) -> int:
    return len(values) if isinstance(values, list | tuple) else 0


def _three(values: Any, what: str, where: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} {values!r} of {where} must be three numbers (nm)") from error
    if len(numbers) != 3:
        raise UserError(f"{what} {list(numbers)} of {where} must be three numbers (nm)")
    return numbers
