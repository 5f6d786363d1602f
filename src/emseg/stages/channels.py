"""Which channels of a prediction a decoder gets, and the facts about them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emseg.decoding.calibration import Calibration, calibrated, calibration_of
from emseg.errors import UserError, unknown_name
from emseg.volumes import Volume


def nearest_channels(offsets: Sequence[Sequence[int]]) -> list[int]:
    """For each axis the channel with the shortest offset along it, the first one if several.

    The offset zero marks a channel that is not an affinity; UserError if an axis has none.
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
    """The channels of a head; UserError if there is none of that name."""
    heads = facts.get("heads") or {}
    if name not in heads:
        raise unknown_name("head", name, heads, where=f"inference.model.head for {where}")
    return list(range(*heads[name]))


def chosen_channels(
    select: Sequence[int] | str | None, facts: Mapping[str, Any], *, where: str | Path
) -> list[int]:
    """The channels for the decoder: the selected ones, else the nearest offsets, else all.

    `select` is channel numbers or the name of a head. `facts` are attributes of a prediction or
    facts of its target; `where` is for errors.
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


def calibrated_channels(
    predicted: Volume, channels: Sequence[int], decoding: Mapping[str, Any]
) -> Volume:
    """The channels of a prediction, calibrated if the decoder's leaf says so.

    Logits of other programs, declared by the config, are always calibrated.
    """
    chosen, calibration = predicted.select(channels), calibration_of(decoding)
    elsewhere = predicted.attributes.get("elsewhere")
    if calibration is None and elsewhere and elsewhere["values"] == "logit":
        calibration = Calibration(biases=None, temperature=1.0)
    if calibration is None:
        return chosen
    activation, where = predicted.attributes.get("activation", "unknown kind"), predicted.location
    return calibrated(chosen, calibration, logits=are_logits(activation, channels, where=where))


def are_logits(activation: str | Sequence[str], channels: Sequence[int], *, where: Any) -> bool:
    """Whether the channels are logits, not probabilities; UserError if they are mixed.

    `activation` is the prediction's attribute for the kind of its values.
    """
    words = {activation if isinstance(activation, str) else activation[c] for c in channels}
    if words not in ({"logit"}, {"probability"}):
        raise UserError(
            f"decoding.biases and decoding.temperature are for logits or probabilities, {where} "
            f"has channels of {', '.join(sorted(words))}"
        )
    return words == {"logit"}


def asked_facts(
    decoder: Callable[..., Any],
    facts: Mapping[str, Any],
    channels: Sequence[int],
    *,
    voxel_size: Sequence[float] | None,
    where: str | Path,
) -> dict[str, Any]:
    """Facts about the chosen channels that are arguments of the decoder."""
    offsets = facts["offsets"] and [tuple(facts["offsets"][channel]) for channel in channels]
    if offsets and not any(map(any, offsets)):
        offsets = None  # not affinities
    known = {"offsets": offsets, "edge_side": facts["edge_side"], "voxel_size": voxel_size}
    parameters = inspect.signature(decoder).parameters
    asked = {name: value for name, value in known.items() if name in parameters}
    for name, value in asked.items():
        if value is None and parameters[name].default is inspect.Parameter.empty:
            raise UserError(f"{where} has no {name}, which the decoder needs")
    return asked
