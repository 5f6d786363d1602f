"""What the channels of a target mean, as checkpoints, predictions and decoders need it."""

from dataclasses import dataclass
from typing import Any, Literal

from emseg.data.targets import Offset, Target
from emseg.kernels.affinity import EdgeSide

ChannelActivation = Literal["sigmoid", "tanh"]


@dataclass(frozen=True, kw_only=True)
class TargetFacts:
    """The names of a target's channels, and what they mean.

    Attributes:
        channels: their names.
        offsets: of affinities (d0, d1, d2) in stored axes, one for each channel; zero marks a
            channel that is no affinity.
        edge_side: of affinities.
        heads: named parts, as channels [first, stop).
        activations: says of each channel's logit whether it is a probability (`sigmoid`) or a value
            in [-1, 1] (`tanh`); None: all are probabilities.
    """

    channels: tuple[str, ...]
    offsets: tuple[Offset, ...] | None = None
    edge_side: EdgeSide | None = None
    heads: dict[str, tuple[int, int]] | None = None
    activations: tuple[ChannelActivation, ...] | None = None

    @classmethod
    def of(cls, target: Target) -> "TargetFacts":
        """The facts of a target."""
        return cls(
            channels=target.names,
            offsets=target.offsets,
            edge_side=target.edge_side,
            heads=target.heads,
            activations=target.activations,
        )

    def stored(self) -> dict[str, Any]:
        """The facts in plain containers; `heads` and `activations` only if there are any."""
        facts: dict[str, Any] = {
            "channels": list(self.channels),
            "offsets": self.offsets and [list(offset) for offset in self.offsets],
            "edge_side": self.edge_side,
        }
        if self.heads is not None:
            facts["heads"] = {name: list(channels) for name, channels in self.heads.items()}
        if self.activations is not None:
            facts["activations"] = list(self.activations)
        return facts
