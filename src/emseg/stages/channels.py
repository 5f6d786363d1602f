"""What the channels of a prediction are, and which of them a decoder gets."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from emseg.config.annotations import conform
from emseg.data.target_facts import TargetFacts
from emseg.data.targets import Offset
from emseg.errors import UserError, unknown_name
from emseg.kernels.affinity import EdgeSide
from emseg.volumes import Volume

# What values are.
Kind = Literal["probability", "scaled", "logit", "distance"]
# By the activation that made them.
_KINDS: dict[str, Kind] = {"sigmoid": "probability", "scale_sigmoid": "scaled", "none": "logit"}


@dataclass(frozen=True, kw_only=True)
class Channels:
    """What a prediction says of its channels, under the keys of its attributes.

    `offsets` are None without affinities; the offset zero marks a channel that is none.
    `activation` is the kind of the values, of all channels or of each; `heads` are named parts,
    [first, stop). Older files say nothing of these two.
    """

    channels: tuple[str, ...]
    offsets: tuple[Offset, ...] | None
    edge_side: EdgeSide | None
    activation: Kind | tuple[Kind, ...] | None = None
    heads: dict[str, tuple[int, int]] | None = None

    @classmethod
    def of(cls, target: TargetFacts, activation: str) -> "Channels":
        """What a prediction of the target's channels will say, made with `inference.activation`."""
        values = values_of(activation, target.activations)
        return cls(
            channels=target.channels,
            offsets=target.offsets,
            edge_side=target.edge_side,
            activation=values if isinstance(values, str) else tuple(values),
            heads=target.heads,
        )

    def chosen(self, select: Sequence[int] | str | None, *, where: str | Path) -> list[int]:
        """The channels for the decoder: the selected ones, else the nearest offsets, else all.

        `select` is channel numbers or the name of a head; `where` is for errors.
        """
        if isinstance(select, str):
            heads = self.heads or {}
            if select not in heads:
                raise unknown_name("head", select, heads, where=f"inference.model.head for {where}")
            return list(range(*heads[select]))
        count = len(self.channels)
        if select is None:
            return nearest_channels(self.offsets) if self.offsets else list(range(count))
        outside = [channel for channel in select if channel >= count]
        if outside:
            raise UserError(
                f"inference.model.select_channel: {outside[0]} is no channel of {where} "
                f"(0 to {count - 1}: {', '.join(self.channels)})"
            )
        return list(select)

    def facts_for(
        self,
        decoder: Callable[..., Any],
        chosen: Sequence[int],
        *,
        voxel_size: Sequence[float] | None,
        where: str | Path,
    ) -> dict[str, Any]:
        """The facts about the chosen channels that are arguments of the decoder."""
        offsets = self.offsets and [self.offsets[channel] for channel in chosen]
        if offsets and not any(map(any, offsets)):
            offsets = None  # not affinities
        known = {"offsets": offsets, "edge_side": self.edge_side, "voxel_size": voxel_size}
        parameters = inspect.signature(decoder).parameters
        asked = {name: value for name, value in known.items() if name in parameters}
        for name, value in asked.items():
            if value is None and parameters[name].default is inspect.Parameter.empty:
                raise UserError(f"{where} has no {name}, which the decoder needs")
        return asked

    def are_logits(self, chosen: Sequence[int], *, where: str | Path) -> bool:
        """Whether the chosen channels are logits, not probabilities; UserError if mixed."""
        own = self.activation
        kinds = {own[channel] if isinstance(own, tuple) else own for channel in chosen}
        if kinds not in ({"logit"}, {"probability"}):
            shown = ", ".join(sorted(kind or "unknown kind" for kind in kinds))
            raise UserError(
                "decoding.biases and decoding.temperature are for logits or probabilities, "
                f"{where} has channels of {shown}"
            )
        return kinds == {"logit"}


def read_channels(predicted: Volume) -> Channels:
    """What a prediction's attributes say. Raises UserError for what no prediction can say."""
    where, attributes = predicted.location, predicted.attributes
    count = predicted.channels
    if count is None:
        raise UserError(f"{where} has no channels: it is not a prediction")
    known: dict[str, Any] = {}
    for name, annotation in get_type_hints(Channels).items():
        if name in attributes:
            value = conform(f"{where}: the attribute {name}", attributes[name], annotation)
            if isinstance(value, tuple) and len(value) != count:
                raise UserError(f"{where}: the attribute {name} must have {count} items")
            known[name] = value
        elif name not in ("activation", "heads"):
            raise UserError(f"{where}: the attribute {name} is missing")
    for name, (first, stop) in (known.get("heads") or {}).items():
        if not 0 <= first < stop <= count:
            raise UserError(
                f"{where}: the attribute heads: {name} is [{first}, {stop}], it must be "
                f"[first, stop] within {count} channels"
            )
    return Channels(**known)


def values_of(activation: str, channels: Sequence[str] | None) -> Kind | list[Kind]:
    """What the values are: one word if all channels are alike, else one for each."""
    value = _KINDS[activation]
    if channels is None or activation == "none":
        return value
    each: list[Kind] = ["distance" if one == "tanh" else value for one in channels]
    return each if len(set(each)) > 1 else each[0]


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
