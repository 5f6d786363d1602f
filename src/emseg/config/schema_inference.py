"""The typed config of inference, and of what predictions hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from emseg.config.limits import Axes3, require, require_positive
from emseg.config.schema_data import AXIS_ORDERS


@dataclass(kw_only=True)
class Window:
    """The sliding window; a null `window_size` is chosen from volume, training patch and memory.

    `overlap` is a fraction of the window; null is half of a given `window_size`, else half the
    training patch. Windows are predicted on `sw_device` and summed on `output_device`: null for the
    device of `system`.
    """

    window_size: Axes3 | None = None
    sw_batch_size: int = 4
    overlap: float | tuple[float, float, float] | None = None
    blending: Literal["constant", "gaussian", "bump", "distance_transform"] = "gaussian"
    padding_mode: Literal["reflect", "replicate", "constant"] = "reflect"
    snap_to_edge: bool = False
    sw_device: Literal["cuda", "cpu"] | None = None
    output_device: Literal["cuda", "cpu"] | None = None

    def __post_init__(self) -> None:
        require_positive(self, "sw_batch_size")
        overlaps = self.overlap if isinstance(self.overlap, tuple) else (self.overlap or 0,)
        require(all(0 <= part < 1 for part in overlaps), "overlap", self.overlap, "in [0, 1)")
        size = self.window_size or (1,)
        require(min(size) > 0, "window_size", self.window_size, "above 0 on every axis")


@dataclass(kw_only=True)
class InferenceModel:
    """What the decoder sees: channels by number, or those of a head by its name.

    Both null is each axis's nearest affinity, or all of other channels.
    """

    select_channel: list[int] | None = None
    head: str | None = None

    def __post_init__(self) -> None:
        chosen = self.select_channel
        fine = chosen is None or (len(chosen) > 0 and min(chosen) >= 0)
        require(fine, "select_channel", chosen, "channel numbers from 0")
        once = chosen is None or self.head is None
        require(once, "select_channel", chosen, f"null beside head={self.head}")

    @property
    def selected(self) -> list[int] | str | None:
        """The channels, or the head, that the decoder gets."""
        return self.select_channel if self.head is None else self.head


@dataclass(kw_only=True)
class PredictionConfig:
    """What `--input` of decode holds if its file does not say so: a prediction of another program.

    `offsets` (voxels, stored axes) has one for each channel, 0, 0, 0 for a channel that is not an
    affinity. `scale` is the number that means a probability of 1: null is 255 for uint8, 1 for
    floats.
    """

    values: Literal["probability", "scaled", "logit"] | None = None
    scale: float | None = None
    offsets: list[Axes3] | None = None
    edge_side: Literal["source", "destination"] | None = None
    axes: str | None = None
    resolution: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        require_positive(self, "scale")
        scaled = self.scale is None or self.values != "logit"
        require(scaled, "scale", self.scale, "null beside values=logit")
        require(self.offsets != [], "offsets", self.offsets, "one offset for each channel")
        allowed = "x, y, z and c in stored order (czyx, cxyz, zyxc), or without channels (zyx)"
        require(self.axes is None or self.axes in AXIS_ORDERS, "axes", self.axes, allowed)
        resolution = self.resolution or (1.0,)
        require(min(resolution) > 0, "resolution", self.resolution, "above 0 nm on every axis")


@dataclass(kw_only=True)
class TestTimeAugmentation:
    """Views to merge: flips of the axes, and quarter turns in the planes of the axis pairs."""

    enabled: bool = False
    flip_axes: Literal["all"] | list[int] | None = "all"
    rotation90_axes: list[tuple[int, int]] | None = None
    ensemble_mode: Literal["mean", "min", "max"] = "mean"

    def __post_init__(self) -> None:
        flips = [] if self.flip_axes in ("all", None) else list(self.flip_axes)
        fine = set(flips) <= {0, 1, 2} and len(set(flips)) == len(flips)
        require(fine, "flip_axes", self.flip_axes, "'all', null or distinct axes of 0, 1, 2")
        for first, second in self.rotation90_axes or []:
            fine = first != second and {first, second} <= {0, 1, 2}
            allowed = "pairs of two different axes of 0, 1, 2"
            require(fine, "rotation90_axes", self.rotation90_axes, allowed)


@dataclass(kw_only=True)
class Inference:
    """From a volume to a prediction of all its voxels."""

    window: Window = field(default_factory=Window)
    pad: Axes3 = (0, 0, 0)
    crop_pad: tuple[int, int, int, int, int, int] | None = None
    activation: Literal["sigmoid", "scale_sigmoid", "none"] = "sigmoid"
    output_dtype: Literal["float32", "float16", "uint8"] = "float32"
    model: InferenceModel = field(default_factory=InferenceModel)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    test_time_augmentation: TestTimeAugmentation = field(default_factory=TestTimeAugmentation)

    def __post_init__(self) -> None:
        for key in ("pad", "crop_pad"):
            value: Sequence[int] | None = getattr(self, key)
            require(value is None or min(value) >= 0, key, value, "0 or more on every side")
