"""The facts in a checkpoint besides its weights."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

from emseg.bounds import Rule, check_fields, within
from emseg.data.target_facts import TargetFacts

# No training writes larger numbers.
MOST_STEPS = 2**53
MOST_CHANNELS = 4096
MOST_VOXELS = 2**31


def _is_region(region: Mapping[str, Any]) -> bool:
    corners = [region.get(key) for key in ("first", "stop")]
    whole = all(
        isinstance(corner, list) and [type(one) for one in corner] == [int] * 3
        for corner in corners
    )
    return whole and isinstance(region.get("image"), str)


def _are_intensities(found: Mapping[str, Any]) -> bool:
    return isinstance(found.get("dtype"), str) and all(
        isinstance(ends, list)
        and len(ends) == 2
        and all(type(end) in (int, float) and math.isfinite(end) for end in ends)
        for ends in (found.get("stored"), found.get("seen"))
    )


def _are_plain(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple):
        return all(map(_are_plain, inside))
    return value is None or isinstance(value, bool | int | float | str)


AXES = Rule("x, y and z in their order", lambda a: "".join(sorted(a)) in ("xy", "xyz", "txyz"))
VOXEL_SIZE = Rule("above 0 nm on every axis", lambda size: all(0 < nm < math.inf for nm in size))
PATCH_SIZE = Rule(
    f"1 to {MOST_VOXELS} voxels", lambda size: min(size) > 0 and math.prod(size) <= MOST_VOXELS
)
REGIONS = Rule("image, first and stop of regions", lambda regions: all(map(_is_region, regions)))
INTENSITIES = Rule("dtype, and two numbers stored and seen", _are_intensities)
PLAIN = Rule("plain settings", _are_plain)
Settings = Annotated[dict[str, Any], PLAIN]
Regions = Annotated[list[dict[str, Any]], REGIONS]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a checkpoint says about its training, under `emseg` in it.

    Fields with a default are missing in checkpoints of earlier versions.

    Attributes:
        global_step: optimizer steps done.
        axes, voxel_size: of the training's images as stored, in nm; None: unknown, or they differ.
        in_channels: of an image.
        patch_size: voxels, stored axes.
        target: None for a training without one.
        trained_on: the regions of volumes whose labels it saw: `image`, `first` voxel and `stop`.
        seen_unlabelled: those it saw without labels.
        intensities: `dtype`, and the range of nearly all voxels as `stored` and as `seen`.
        version: of emseg.
        objective, optimizer, scheduler: their settings.
        config: the run's saved config.

    Raises:
        UserError: a field out of its range.
    """

    global_step: Annotated[int, within(0, MOST_STEPS)]
    axes: Annotated[str, AXES] | None
    voxel_size: Annotated[tuple[float, float, float], VOXEL_SIZE] | None
    in_channels: Annotated[int, within(1, MOST_CHANNELS)]
    patch_size: Annotated[tuple[int, int, int], PATCH_SIZE]
    target: TargetFacts | None = None
    trained_on: Regions = field(default_factory=list)
    seen_unlabelled: Regions = field(default_factory=list)
    intensities: Annotated[dict[str, Any], INTENSITIES] | None = None
    version: str = ""
    objective: Settings = field(default_factory=dict)
    optimizer: Settings = field(default_factory=dict)
    scheduler: Settings = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def out_channels(self) -> int:
        """The channels of the network's output: the target's, else those of an image."""
        return self.in_channels if self.target is None else len(self.target.channels)

    def stored(self) -> dict[str, Any]:
        """The facts in plain containers, the target's beside the others."""
        facts = asdict(self) | {"patch_size": list(self.patch_size)}
        del facts["target"]
        if self.intensities is None:
            del facts["intensities"]
        return facts | ({} if self.target is None else self.target.stored())
