"""The typed config of volumes and of the patches that are taken from them."""

from dataclasses import dataclass, field
from itertools import permutations
from typing import Literal

from emseg.config.limits import Axes3, Range, require, require_positive, require_range

# Stored axes: c are the channels of an image, t has the length 1, a section has no z.
AXIS_ORDERS = [
    "".join(order)
    for axes in ("xy", "cxy", "xyz", "cxyz", "txyz", "tcxyz")
    for order in permutations(axes)
]


@dataclass(kw_only=True)
class VolumeConfig:
    """One volume; `path` is the root that image, label, mask and skeletons are relative to.

    `range` is along `range_axis`, by default the first stored axis. In addition to 0, the label id
    `background` means background, and the id `unlabelled` means unknown.
    """

    image: str
    label: str | None = None
    mask: str | None = None
    skeletons: str | None = None
    path: str | None = None
    resolution: tuple[float, float, float] | None = None
    axes: str | None = None
    name: str | None = None
    range: Range = None
    range_axis: Literal["z", "y", "x"] | None = None
    weight: float | None = None
    unlabelled: int | None = None
    background: int | None = None

    def __post_init__(self) -> None:
        resolution = self.resolution or (1.0,)
        require(min(resolution) > 0, "resolution", self.resolution, "above 0 nm on every axis")
        allowed = (
            "x, y and z in stored order (zyx), with c for channels (czyx, zyxc), t for a time of "
            "length 1 (tczyx), without z for a single section (yx)"
        )
        require(self.axes is None or self.axes in AXIS_ORDERS, "axes", self.axes, allowed)
        require_range("range", self.range)
        whole = self.skeletons is None or self.range is None
        require(whole, "range", self.range, "null beside skeletons, which are of the whole volume")
        ranged = self.range_axis is None or self.range is not None
        require(ranged, "range_axis", self.range_axis, "null without a range")
        require_positive(self, "weight")
        apart = self.background is None or self.background != self.unlabelled
        require(apart, "background", self.background, "another id than unlabelled")


@dataclass(kw_only=True)
class Dataloader:
    """One device's batches; `patch_size` in voxels, in stored-axis order."""

    batch_size: int = 4
    patch_size: Axes3 = (16, 224, 224)

    def __post_init__(self) -> None:
        require_positive(self, "batch_size")
        require(min(self.patch_size) > 0, "patch_size", self.patch_size, "above 0 on every axis")


@dataclass(kw_only=True)
class RejectSamplingConfig:
    """Patches of fewer than `size_thres` foreground voxels are drawn anew with probability `p`."""

    size_thres: int = 0
    p: float = 0.95

    def __post_init__(self) -> None:
        require(self.size_thres >= 0, "size_thres", self.size_thres, "0 (off) or a count of voxels")
        require(0 <= self.p <= 1, "p", self.p, "a probability")


@dataclass(kw_only=True)
class Data:
    """Volumes by name; a single unnamed one has the key "" (the stage names it).

    An objective=consistency also learns from patches of `unlabelled`.
    """

    train: dict[str, VolumeConfig] = field(default_factory=dict)
    val: dict[str, VolumeConfig] = field(default_factory=dict)
    test: dict[str, VolumeConfig] = field(default_factory=dict)
    unlabelled: dict[str, VolumeConfig] = field(default_factory=dict)
    split_train_range: Range = None
    split_val_range: Range = None
    intensity_range: tuple[float, float] | None = None
    intensity_percentiles: tuple[float, float] | None = None
    pad_small: bool = False
    preload: bool = True
    target_context: bool = False
    relabel_crops: bool = False
    reject_sampling: RejectSamplingConfig = field(default_factory=RejectSamplingConfig)
    dataloader: Dataloader = field(default_factory=Dataloader)

    def __post_init__(self) -> None:
        require_range("split_train_range", self.split_train_range)
        require_range("split_val_range", self.split_val_range)
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
        if self.intensity_range is not None:
            low, high = self.intensity_range
            require(low < high, "intensity_range", self.intensity_range, "[low, high], low < high")
        if self.intensity_percentiles is not None:
            low, high = self.intensity_percentiles
            fine = 0 <= low < high <= 100
            allowed = "[low, high], 0 <= low < high <= 100"
            require(fine, "intensity_percentiles", self.intensity_percentiles, allowed)
            once = self.intensity_range is None
            allowed = "null where data.intensity_percentiles is given"
            require(once, "intensity_range", self.intensity_range, allowed)

    @property
    def intensities(self) -> dict[str, tuple[float, float] | None]:
        """The settings of the intensities that become 0 and 1, by key: at most one is not None."""
        keys = ("intensity_range", "intensity_percentiles")
        return {key: getattr(self, key) for key in keys}
