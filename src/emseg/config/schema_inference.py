"""The typed config of inference, and of what predictions hold."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from emseg.bounds import Positive, Rule
from emseg.config.annotations import require
from emseg.config.schema_data import AboveZero, Axes, Axes3, NotNegative, Size3, VoxelSize

Overlap = Annotated[float, Rule("in [0, 1)", lambda part: 0 <= part < 1)]


def _are_planes(pairs: list[tuple[int, int]]) -> bool:
    return all(first != second and {first, second} <= {0, 1, 2} for first, second in pairs)


@dataclass(kw_only=True)
class Window:
    """The sliding window; a null `window_size` is chosen from volume, training patch and memory.

    `overlap` is a fraction of the window; null is half of a given `window_size`, else half the
    training patch. Windows are predicted on `sw_device` and summed on `output_device`: null for the
    device of `system`.
    """

    window_size: Size3 | None = None
    sw_batch_size: Positive = 4
    overlap: Overlap | tuple[Overlap, Overlap, Overlap] | None = None
    blending: Literal["constant", "gaussian", "bump", "distance_transform"] = "gaussian"
    padding_mode: Literal["reflect", "replicate", "constant"] = "reflect"
    snap_to_edge: bool = False
    sw_device: Literal["cuda", "cpu"] | None = None
    output_device: Literal["cuda", "cpu"] | None = None


@dataclass(kw_only=True)
class InferenceModel:
    """What the decoder sees: channels by number, or those of a head by its name.

    Both null is each axis's nearest affinity, or all of other channels.
    """

    select_channel: Annotated[list[NotNegative], Rule("channel numbers from 0", bool)] | None = None
    head: str | None = None

    def __post_init__(self) -> None:
        chosen = self.select_channel
        once = chosen is None or self.head is None
        require(once, "select_channel", chosen, f"null beside head={self.head}")

    @property
    def selected(self) -> list[int] | str | None:
        """The channels, or the head, that the decoder gets."""
        return self.select_channel if self.head is None else self.head


@dataclass(kw_only=True)
class PredictionConfig:
    """What `--input` of decode holds if its file does not say so: a prediction of another program.

    Attributes:
        scale: the number that means a probability of 1; None: 255 for uint8, 1 for floats.
        offsets: voxels, stored axes, one for each channel; 0, 0, 0 for one that is not an affinity.
        axes, resolution: as in `VolumeConfig`.
    """

    values: Literal["probability", "scaled", "logit"] | None = None
    scale: AboveZero | None = None
    offsets: Annotated[list[Axes3], Rule("one offset for each channel", bool)] | None = None
    edge_side: Literal["source", "destination"] | None = None
    axes: Axes | None = None
    resolution: VoxelSize | None = None

    def __post_init__(self) -> None:
        scaled = self.scale is None or self.values != "logit"
        require(scaled, "scale", self.scale, "null beside values=logit")


@dataclass(kw_only=True)
class TestTimeAugmentation:
    """Views to merge: flips of the axes, and quarter turns in the planes of the axis pairs."""

    enabled: bool = False
    flip_axes: (
        Literal["all"]
        | Annotated[
            list[int],
            Rule(
                "'all', null or distinct axes of 0, 1, 2",
                lambda axes: set(axes) <= {0, 1, 2} and len(set(axes)) == len(axes),
            ),
        ]
        | None
    ) = "all"
    rotation90_axes: (
        Annotated[
            list[tuple[int, int]], Rule("pairs of two different axes of 0, 1, 2", _are_planes)
        ]
        | None
    ) = None
    ensemble_mode: Literal["mean", "min", "max"] = "mean"


@dataclass(kw_only=True)
class Inference:
    """From a volume to a prediction of all its voxels.

    Attributes:
        pad: voxels of padding on both sides of each stored axis.
        crop_pad: voxels before and after each axis; it may only crop back to the image, as None.
        activation, output_dtype: of predictions, see `emseg.inference.settings.Settings`.
    """

    window: Window = field(default_factory=Window)
    pad: tuple[NotNegative, NotNegative, NotNegative] = (0, 0, 0)
    crop_pad: (
        tuple[NotNegative, NotNegative, NotNegative, NotNegative, NotNegative, NotNegative] | None
    ) = None
    activation: Literal["sigmoid", "scale_sigmoid", "none"] = "sigmoid"
    output_dtype: Literal["float32", "float16", "uint8"] = "float32"
    model: InferenceModel = field(default_factory=InferenceModel)
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    test_time_augmentation: TestTimeAugmentation = field(default_factory=TestTimeAugmentation)
