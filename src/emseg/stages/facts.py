"""The facts in a checkpoint besides its weights, and their allowed values."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from emseg.bounds import Rule, within
from emseg.config.annotations import defaults, require, typed
from emseg.config.schema_data import AXIS_ORDERS, Axes3, Size3, VoxelSize
from emseg.errors import UserError

# No training writes larger numbers.
MOST_STEPS = 2**53
MOST_CHANNELS = 4096
MOST_VOXELS = 2**31
_ORDERS = [order for order in AXIS_ORDERS if "c" not in order]
_LONGEST = 400


@dataclass(kw_only=True)
class Facts:
    """The facts of a checkpoint, under `emseg` in it.

    A training without a target has no `channels`; fields with a default are missing in checkpoints
    of earlier versions.
    """

    global_step: Annotated[int, within(0, MOST_STEPS)]
    axes: Annotated[str, Rule("x, y and z in their order", _ORDERS.__contains__)] | None
    voxel_size: VoxelSize | None
    in_channels: Annotated[int, within(1, MOST_CHANNELS)]
    patch_size: Annotated[
        Size3,
        Rule(f"1 to {MOST_VOXELS} voxels", lambda size: math.prod(size) <= MOST_VOXELS),
    ]
    channels: list[str] | None = None
    offsets: list[Axes3] | None = None
    edge_side: Literal["source", "destination"] | None = None
    heads: dict[str, tuple[int, int]] | None = None
    activations: list[str] | None = None
    trained_on: list[dict[str, Any]] = field(default_factory=list)
    seen_unlabelled: list[dict[str, Any]] = field(default_factory=list)
    intensities: dict[str, Any] | None = None
    version: str = ""
    objective: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("trained_on", "seen_unlabelled"):
            for region in getattr(self, key):
                require(_is_region(region), key, region, "image, first and stop of regions")
        fine = self.intensities is None or _are_intensities(self.intensities)
        require(fine, "intensities", self.intensities, "dtype, and two numbers stored and seen")


def trained_facts(stored: Mapping[str, Any], *, source: Path) -> dict[str, Any]:
    """What training wrote into a checkpoint besides the weights, unchanged.

    UserErrors: a checkpoint of another program; facts that are missing, of another type or out of
    range.
    """
    if "emseg" not in stored:
        raise UserError(
            f"{source} does not say what it was trained for: it is no checkpoint of emseg "
            "(model.init_from takes weights alone)"
        )
    facts = stored["emseg"]
    require_facts(facts, source=source)
    step = stored.get("global_step")
    if type(step) is not int or step != facts["global_step"]:
        raise UserError(
            f"{source}: global_step: {step!r:.80} is not that of its facts, {facts['global_step']}"
        )
    return dict(facts)


def require_facts(facts: Any, *, source: Path) -> None:
    """Raises UserError for the first fact that no training can have written."""
    try:
        if not isinstance(facts, dict):
            raise UserError(f"emseg: expected a mapping of keys, got {facts!r}")
        for item in fields(Facts):
            required = item.default is MISSING and item.default_factory is MISSING
            if required and item.name not in facts:
                raise UserError(f"emseg.{item.name}: is missing")
        typed(Facts, defaults(Facts) | facts, "emseg")
    except UserError as error:
        text = " ".join(str(error).split())
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
        raise UserError(f"{source} was changed since a training wrote it: {text}") from None


def _is_region(region: Mapping[str, Any]) -> bool:
    corners = [region.get(key) for key in ("first", "stop")]
    whole = all(
        isinstance(corner, list) and [type(one) for one in corner] == [int] * 3
        for corner in corners
    )
    return whole and isinstance(region.get("image"), str)


def _are_intensities(found: Mapping[str, Any]) -> bool:
    ranges = [found.get(key) for key in ("stored", "seen")]
    return isinstance(found.get("dtype"), str) and all(
        isinstance(ends, list)
        and len(ends) == 2
        and all(type(end) in (int, float) and math.isfinite(end) for end in ends)
        for ends in ranges
    )
