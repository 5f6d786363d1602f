"""Which axis of a stored array is which: from the config, from its file, or from its shape."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emseg.errors import UserError

SPACE = "zyx"
# Names that programs give to axes, beside the letters; others say nothing.
_LETTERS = {
    **dict.fromkeys(("c", "channel", "channels", "ch"), "c"),
    **dict.fromkeys(("t", "time", "frame", "frames"), "t"),
    **{letter: letter for letter in SPACE},
}
# Attributes that name the axes: ours, those of older converters, funlib, xarray, vigra and ilastik,
# HDF5's labels of dimensions, and COSEM's.
NAMING = (
    "axes",
    "axis_order",
    "axis_names",
    "_ARRAY_DIMENSIONS",
    "axistags",
    "DIMENSION_LABELS",
    "transform",
)
Names = list[str | None]


@dataclass(frozen=True)
class Arrangement:
    """How a stored array is seen as a volume.

    `order` has the stored number of each spatial axis, in stored order, None for one of length 1
    that is not stored; `axes` names them; `channel` is the stored number of the channel axis, None
    without one. `stated` says where the file names a spatial axis, None if it names none.
    """

    order: tuple[int | None, ...]
    axes: str
    channel: int | None
    stated: str | None

    @property
    def letters(self) -> str:
        """The stored axes that are used, in order: `axes` with c for the channels."""
        names = {self.channel: "c", **dict(zip(self.order, self.axes, strict=True))}
        return "".join(names[axis] for axis in sorted(axis for axis in names if axis is not None))


def arrange(
    shape: Sequence[int],
    asked: str | None = None,
    *,
    stated: Mapping[str, Any] | None = None,
    where: str,
) -> Arrangement:
    """Which axes of a stored array are z, y, x and channels.

    Axes that neither `asked` nor `stated` names are z, y and x; axes of length 1 that are not
    spatial are left out, except a named c; an array of two axes is one section.

    Args:
        shape: of the array, all axes in stored order.
        asked: the user's names of the axes ("zyx", "czyx", "tczyx"); t, like an axis that is not
            named, must have the length 1.
        stated: what the file says, by the place of the statement.
        where: the file, for messages.

    Raises:
        UserError: the names contradict each other, themselves or the shape.
    """
    own, place = _own_names(shape, stated or {}, where)
    spatially = place if {*own} & {*SPACE} else None
    if asked is None:
        return _arrangement(shape, own, spatially, where)
    letters = asked.lower()
    if not set(letters) <= set("tczyx") or len(set(letters)) < len(letters):
        raise UserError(
            f"axes '{asked}' of {where} must be the letters z, y and x in stored order, "
            "with c for a channel axis"
        )
    names = _fitted(letters, shape, own)
    if names is None:
        raise UserError(f"axes '{asked}' do not fit {where} of shape {tuple(shape)}")
    for ours, theirs in zip(names, own, strict=True):
        if ours is not None and theirs is not None and ours != theirs and theirs in SPACE:
            raise UserError(
                f"axes '{asked}' contradict {where}, whose {place} names them "
                f"'{_shown(own)}': change axes, or remove it"
            )
    merged = [ours or theirs for ours, theirs in zip(names, own, strict=True)]
    return _arrangement(shape, merged, spatially, where)


def _own_names(
    shape: Sequence[int], stated: Mapping[str, Any], where: str
) -> tuple[Names, str | None]:
    """The file's name for each stored axis, and where; UserError if it gives two names."""
    found: dict[str, Names] = {}
    for place, value in stated.items():
        names = _names(value)
        if not any(names):
            continue
        fitted = _fitted(names, shape, [None] * len(shape))
        if fitted is None:
            raise UserError(f"{where}: {place} '{_shown(names)}' do not fit shape {tuple(shape)}")
        found[place] = fitted
    if not found:
        return [None] * len(shape), None
    first, names = next(iter(found.items()))
    for place, others in found.items():
        for axis, other in enumerate(others):
            if names[axis] is None:
                names[axis] = other
            elif other is not None and other != names[axis]:
                raise UserError(
                    f"{where} names its axes twice, '{_shown(found[first])}' in {first} and "
                    f"'{_shown(others)}' in {place}: correct the wrong one"
                )
    return names, first


def _names(value: Any) -> Names:
    """The letters t, c, z, y, x that a file's words for axes mean, None for unknown words."""
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("[", "{"):
            try:
                return _names(json.loads(text))
            except ValueError:
                return []
        words = re.findall(r"[^\s,;/|]+", text)
        value = list(text) if len(words) == 1 else words
    if isinstance(value, Mapping):  # vigra's tags, or COSEM's transform.
        backward = value.get("ordering") == "F"
        names = _names(value.get("axes"))
        return names[::-1] if backward else names
    return [_letter(name) for name in value] if isinstance(value, list | tuple) else []


def _letter(name: Any) -> str | None:
    if isinstance(name, Mapping):  # An axis of OME-Zarr or of vigra.
        if name.get("type") == "channel":
            return "c"
        name = name.get("name", name.get("key"))
    # funlib marks axes that are not spatial with "^", and numbers its channels.
    word = re.sub(r"\^$", "", str(name).strip().lower())
    return "c" if re.fullmatch(r"c\d+", word) else _LETTERS.get(word)


def _fitted(names: Sequence[str | None], shape: Sequence[int], own: Names) -> Names | None:
    """The names for each stored axis: some of length 1 may have none, a section may lack its z."""
    names = list(names)
    if len(shape) == 2 and len(names) == 3 and "z" in names:
        names.remove("z")
    surplus = len(shape) - len(names)
    if surplus < 0:
        return None
    lone = [axis for axis, size in enumerate(shape) if size == 1]
    lone.sort(key=lambda axis: (own[axis] or "") in tuple(SPACE))
    if len(lone) < surplus:
        return None
    rest = iter(names)
    return [None if axis in lone[:surplus] else next(rest) for axis in range(len(shape))]


def _arrangement(shape: Sequence[int], names: Names, stated: str | None, where: str) -> Arrangement:
    has = f"{where} has {len(shape)} axes, shape {tuple(shape)}"
    for letter in "czyx":
        if names.count(letter) > 1:
            raise UserError(f"{has}, and two of them are '{letter}'")
    missing = [letter for letter in SPACE if letter not in names]
    spatial = [axis for axis, name in enumerate(names) if name is None]
    # Axes without a name are spatial, except surplus axes of length 1.
    for axis in [axis for axis in spatial if shape[axis] == 1]:
        if len(spatial) > len(missing):
            spatial.remove(axis)
    if len(spatial) < len(missing):
        # Some programs store the sections of a stack along the time axis.
        spatial += [axis for axis, name in enumerate(names) if name == "t" and shape[axis] > 1]
        spatial.sort()
    unnamed_channel = len(spatial) == len(missing) + 1 and "c" not in names
    if unnamed_channel and not missing:
        # All spatial axes are named: any other axis is the channel axis, under any name.
        names = ["c" if axis in spatial else name for axis, name in enumerate(names)]
        spatial = []
    seen = {axis: name for axis, name in enumerate(names) if name and name in "czyx"}
    late = [axis for axis, name in enumerate(names) if name == "t" and axis not in spatial]
    if unnamed_channel and missing and len(shape) - len(late) >= 4:
        raise UserError(
            f"{has if len(shape) > 4 else has.replace('4 axes', 'four axes')}: name the channel "
            "axis, as in axes=czyx or axes=zyxc"
        )
    section = len(spatial) == len(missing) - 1 and "z" in missing
    if section:
        missing.remove("z")
    elif len(spatial) != len(missing) or any(shape[axis] > 1 for axis in late):
        raise UserError(
            f"{has}; a volume has three, or four with channels, and one section two "
            "(axes of length 1 do not count)"
        )
    seen |= dict(zip(spatial, missing, strict=True))
    order = sorted(axis for axis, name in seen.items() if name != "c")
    axes = "".join(seen[axis] for axis in order)
    channel = next((axis for axis, name in seen.items() if name == "c"), None)
    if section:
        return Arrangement((None, *order), f"z{axes}", channel, stated)
    return Arrangement(tuple(order), axes, channel, stated)


def _shown(names: Sequence[str | None]) -> str:
    return "".join(name or "?" for name in names)
