"""What decides a prediction beside the network and the image."""

from dataclasses import dataclass
from typing import Annotated, Literal

from emseg.bounds import Positive, check_fields, within
from emseg.data.target_facts import ChannelActivation
from emseg.errors import UserError
from emseg.kernels.affinity import EdgeSide
from emseg.kernels.symmetry import Offset, Symmetry, identity
from emseg.volumes.padding import PaddingMode

Blending = Literal["constant", "gaussian", "bump", "distance_transform"]
OutputDtype = Literal["float32", "float16", "uint8"]
Activation = Literal["sigmoid", "scale_sigmoid", "none"]
EnsembleMode = Literal["mean", "min", "max"]

PROBABILITIES: tuple[Activation, ...] = ("sigmoid", "scale_sigmoid")


@dataclass(frozen=True)
class Ensemble:
    """The views to predict, and how to merge them.

    Attributes:
        views: as `kernels.symmetry.views` makes them, the identity first.

    Raises:
        UserError: the first view is not the identity.
    """

    views: tuple[Symmetry, ...]
    mode: EnsembleMode = "mean"

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.views or self.views[0] != identity(len(self.views[0].flips)):
            raise UserError("test-time views must begin with the identity")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How windows are placed, activated, merged and blended; one value for each spatial axis.

    Args:
        window_size: of a window, in voxels.
        overlap: the part of a window that it shares with the next, in [0, 1); for each axis, or
            for all.
        pad: voxels of padding on both sides of the volume; empty: none.
        snap_to_edge: whether the last window is moved back to end where the padded volume does.
        padding_mode: how the padding is filled.
        sw_batch_size: windows that the network gets at once.
        blending: the weights of a window's voxels, see `accumulator.weight_map`.
        activation: of the network's output; `scale_sigmoid` is the sigmoid of 0.2 x logit, which
            half precision does not saturate (BANIS).
        output_dtype: of the prediction; uint8 is round(255 p).
        offsets: of each channel, in voxels; zero for a channel that is no affinity. Edges that
            leave a window count only if no window has them inside.
        edge_side: the voxel that stores an edge.
        channel_activations: those of the training, for each channel; None: the sigmoid.
            A `tanh` channel gets tanh unless `activation` is `none`.
        tta: test-time augmentation.

    Raises:
        UserError: a setting out of its range, of another number of axes or channels, or two that
            contradict each other.
    """

    window_size: tuple[Positive, ...]
    overlap: float | tuple[float, ...] = 0.5
    pad: tuple[Annotated[int, within(0)], ...] = ()
    snap_to_edge: bool = False
    padding_mode: PaddingMode = "reflect"
    sw_batch_size: Positive = 1
    blending: Blending = "gaussian"
    activation: Activation = "sigmoid"
    output_dtype: OutputDtype = "float32"
    offsets: tuple[Offset, ...]
    edge_side: EdgeSide = "destination"
    channel_activations: tuple[ChannelActivation, ...] | None = None
    tta: Ensemble | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        axes = len(self.window_size)
        for name, row in (
            ("window.overlap", self.overlaps),
            ("pad", self.pads),
            *(("offsets", offset) for offset in self.offsets),
        ):
            if len(row) != axes:
                raise UserError(
                    f"inference.{name} {list(row)}: must have {axes} values, one an axis"
                )
        if not all(0 <= part < 1 for part in self.overlaps):
            raise UserError(
                f"inference.window.overlap {self.overlap} must be at least 0 and less than 1"
            )
        if len(self.channel_activations or self.offsets) != len(self.offsets):
            raise UserError(
                f"channel_activations {self.channel_activations} must have {len(self.offsets)} "
                "values, one a channel"
            )
        if self.output_dtype == "uint8":
            self._check_probabilities()

    def _check_probabilities(self) -> None:
        if self.activation not in PROBABILITIES:
            raise UserError(
                "inference.output_dtype uint8 holds probabilities, not activation "
                f"'{self.activation}' (allowed: activation {', '.join(PROBABILITIES)}, or "
                "output_dtype float16, float32)"
            )
        if self.distances:
            raise UserError(
                "inference.output_dtype uint8 holds probabilities, and channel "
                f"{self.distances[0]} is a distance (allowed: float16, float32)"
            )

    @property
    def distances(self) -> list[int]:
        """The channels with values in [-1, 1]."""
        return [at for at, one in enumerate(self.channel_activations or ()) if one == "tanh"]

    @property
    def are_probabilities(self) -> bool:
        """Whether all channels have values in [0, 1], 0 where there is nothing."""
        return self.activation in PROBABILITIES and not self.distances

    @property
    def overlaps(self) -> tuple[float, ...]:
        """The overlap of each axis."""
        if isinstance(self.overlap, int | float):
            return (self.overlap,) * len(self.window_size)
        return tuple(self.overlap)

    @property
    def pads(self) -> tuple[int, ...]:
        """The padding of each axis."""
        return tuple(self.pad) or (0,) * len(self.window_size)
