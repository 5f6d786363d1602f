"""Which channels of a prediction a decoder gets, and what is known of them."""

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from emseg.errors import UserError, unknown_name


def nearest_channels(offsets: Sequence[Sequence[int]]) -> list[int]:
    """For each axis the channel with the shortest offset along it, the first of equals.

    The offset zero marks a channel that is no affinity; a UserError where an axis has none.
    """
    chosen = []
    for axis in range(3):
        along = [
            (abs(offset[axis]), channel)
            for channel, offset in enumerate(offsets)
            if offset[axis] and not any(offset[:axis]) and not any(offset[axis + 1 :])
        ]
        if not along:
            raise UserError(f"the offsets {[list(o) for o in offsets]} have none along axis {axis}")
        chosen.append(min(along)[1])
    return chosen


def head_channels(name: str, facts: Mapping[str, Any], *, where: str | Path) -> list[int]:
    """The channels of a head; a UserError where there is none of that name."""
    heads = facts.get("heads") or {}
    if name not in heads:
        raise unknown_name("head", name, heads, where=f"inference.model.head for {where}")
    return list(range(*heads[name]))


def chosen_channels(
    select: Sequence[int] | str | None, facts: Mapping[str, Any], *, where: str | Path
) -> list[int]:
    """The channels for the decoder: those selected, else the nearest offsets, else all.

    `select` is channel numbers or the name of a head. `facts` are a prediction's attributes, or
    what its target says of it; `where` is for errors.
    """
    names, offsets = facts["channels"], facts["offsets"]
    if isinstance(select, str):
        return head_channels(select, facts, where=where)
    if select is None:
        return nearest_channels(offsets) if offsets else list(range(len(names)))
    outside = [channel for channel in select if channel >= len(names)]
    if outside:
        raise UserError(
            f"inference.model.select_channel: {outside[0]} is no channel of {where} "
            f"(0 to {len(names) - 1}: {', '.join(names)})"
        )
    return list(select)


def asked_facts(
    decoder: partial,
    facts: Mapping[str, Any],
    channels: Sequence[int],
    *,
    voxel_size: Sequence[float] | None,
    where: str | Path,
) -> dict[str, Any]:
    """What the decoder's signature asks for by name, of the chosen channels."""
    offsets = facts["offsets"] and [tuple(facts["offsets"][channel]) for channel in channels]
    if offsets and not any(map(any, offsets)):
        offsets = None  # of no affinity
    known = {"offsets": offsets, "edge_side": facts["edge_side"], "voxel_size": voxel_size}
    parameters = inspect.signature(decoder.func).parameters
    asked = {name: value for name, value in known.items() if name in parameters}
    for name, value in asked.items():
        if value is None and parameters[name].default is inspect.Parameter.empty:
            raise UserError(f"{where} has no {name}, which {decoder.func.__name__} needs")
    return asked
