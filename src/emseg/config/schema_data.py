"""The typed config of volumes and of the patches that are taken from them."""

from dataclasses import dataclass, field
from itertools import permutations
from math import inf
from typing import Annotated, Literal

from emseg.bounds import Positive, Rule, within
from emseg.config.annotations import require

# Stored axes: c are the channels of an image, t has the length 1, a section has no z.
AXIS_ORDERS = [
    "".join(order)
    for axes in ("xy", "cxy", "xyz", "cxyz", "txyz", "tcxyz")
    for order in permutations(axes)
]


def _is_range(ends: tuple[float, float]) -> bool:
    start, stop = ends
    return 0 <= start < stop and (isinstance(start, int) or stop <= 1)


NotNegative = Annotated[int, within(0)]
AboveZero = Annotated[float, Rule("above 0", lambda value: value > 0)]
Axes3 = tuple[int, int, int]
Size3 = tuple[Positive, Positive, Positive]
VoxelSize = Annotated[
    tuple[float, float, float],
    Rule("above 0 nm on every axis", lambda size: all(0 < length < inf for length in size)),
]
Axes = Annotated[
    str,
    Rule(
        "x, y and z in stored order (zyx), with c for channels (czyx, zyxc), t for a time of "
        "length 1 (tczyx), without z for a single section (yx)",
        AXIS_ORDERS.__contains__,
    ),
]
# Voxels if both are ints, else fractions of the axis.
Range = Annotated[
    tuple[int, int] | tuple[float, float],
    Rule("[start, stop], 0 <= start < stop, two ints (voxels) or fractions up to 1", _is_range),
]


@dataclass(kw_only=True)
class VolumeConfig:
    """One volume, or for a pattern of images one of each file.

    Attributes:
        image, label, mask, skeletons: locations, relative to `path`.
        resolution: nm, stored axes; None: as the file says.
        axes: in stored order; None: as the file says.
        name: None: from key or file.
        range: voxels, or fractions, along `range_axis` (None: the first stored axis).
        weight: how often patches are drawn from it, for all volumes or none (then by size).
        unlabelled: the label id that means unknown.
        background: the label id that means background, in addition to 0.
    """

    image: str
    label: str | None = None
    mask: str | None = None
    skeletons: str | None = None
    path: str | None = None
    resolution: VoxelSize | None = None  # nm
    axes: Axes | None = None
    name: str | None = None
    range: Range | None = None
    range_axis: Literal["z", "y", "x"] | None = None
    weight: AboveZero | None = None
    unlabelled: int | None = None
    background: int | None = None

    def __post_init__(self) -> None:
        whole = self.skeletons is None or self.range is None
        require(whole, "range", self.range, "null beside skeletons, which are of the whole volume")
        ranged = self.range_axis is None or self.range is not None
        require(ranged, "range_axis", self.range_axis, "null without a range")
        apart = self.background is None or self.background != self.unlabelled
        require(apart, "background", self.background, "another id than unlabelled")


@dataclass(kw_only=True)
class Dataloader:
    """One device's batches; `patch_size` in voxels, in stored-axis order.

    `auto` is chosen for the network from volumes, voxel size, device and `system.memory`, and saved
    with the run.
    """

    batch_size: Positive | Literal["auto"] = 4
    patch_size: Size3 | Literal["auto"] = (16, 224, 224)

    @property
    def patch(self) -> Axes3:
        """The patch size, which was chosen before if it is `auto`."""
        assert self.patch_size != "auto"
        return self.patch_size

    @property
    def batch(self) -> int:
        """The batch size, which was chosen before if it is `auto`."""
        assert self.batch_size != "auto"
        return self.batch_size


@dataclass(kw_only=True)
class RejectSamplingConfig:
    """Patches of fewer than `size_thres` foreground voxels are drawn anew with probability `p`."""

    size_thres: NotNegative = 0
    p: Annotated[float, within(0, 1)] = 0.95


@dataclass(kw_only=True)
class Data:
    """Volumes by name, and how patches are drawn from them; a single unnamed one has the key "".

    Attributes:
        unlabelled: an objective=consistency also learns from patches of these.
        split_train_range, split_val_range: the parts of each `train` volume, along its first axis,
            to train and to validate on.
        intensity_range, intensity_percentiles: what becomes 0 and 1; None: the ends of the dtype.
        pad_small, preload, target_context, relabel_crops: see `PatchDataset`.
    """

    train: dict[str, VolumeConfig] = field(default_factory=dict)
    val: dict[str, VolumeConfig] = field(default_factory=dict)
    test: dict[str, VolumeConfig] = field(default_factory=dict)
    unlabelled: dict[str, VolumeConfig] = field(default_factory=dict)
    split_train_range: Range | None = None
    split_val_range: Range | None = None
    intensity_range: (
        Annotated[
            tuple[float, float], Rule("[low, high], low < high", lambda ends: ends[0] < ends[1])
        ]
        | None
    ) = None
    intensity_percentiles: (
        Annotated[
            tuple[float, float],
            Rule("[low, high], 0 <= low < high <= 100", lambda ends: 0 <= ends[0] < ends[1] <= 100),
        ]
        | None
    ) = None
    pad_small: bool = False
    preload: bool = True
    target_context: bool = False
    relabel_crops: bool = False
    reject_sampling: RejectSamplingConfig = field(default_factory=RejectSamplingConfig)
    dataloader: Dataloader = field(default_factory=Dataloader)

    def __post_init__(self) -> None:
        for name, volume in self.test.items():
            key = f"test.{name}.weight" if name else "test.weight"
            require(volume.weight is None, key, volume.weight, "null: a test draws no patches")
        for volume in (*self.train.values(), *self.val.values(), *self.unlabelled.values()):
            allowed = "null but in data.test"
            require(volume.skeletons is None, "skeletons", volume.skeletons, allowed)
        once = self.split_val_range is None or not self.val
        require(once, "split_val_range", self.split_val_range, "null where data.val is given")
        apart = self.split_val_range is None or self.split_train_range is not None
        allowed = "null without data.split_train_range, else training goes on the same voxels"
        require(apart, "split_val_range", self.split_val_range, allowed)
        once = None in (self.intensity_range, self.intensity_percentiles)
        allowed = "null where data.intensity_percentiles is given"
        require(once, "intensity_range", self.intensity_range, allowed)

    @property
    def intensities(self) -> dict[str, tuple[float, float] | None]:
        """The settings of the intensities that become 0 and 1, by key: at most one is not None."""
        keys = ("intensity_range", "intensity_percentiles")
        return {key: getattr(self, key) for key in keys}
