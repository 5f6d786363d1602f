"""Opens the volumes of a config and names them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from emseg.config.schema import BorderMask
from emseg.config.schema_data import VolumeConfig
from emseg.data.labelled import LabelledVolume, check_shapes
from emseg.data.sampling import resolve_range
from emseg.errors import UserError
from emseg.runs.run_folder import process_rank, say
from emseg.stages.absent_chunks import refuse_hollow, report_absent
from emseg.stages.patterns import expand, image_name
from emseg.volumes import Volume, open_volume
from emseg.volumes.location import parse_location
from emseg.volumes.places import (
    Region,
    begins_at,
    common_region,
    one_sided_offset,
    shown_region,
)
from emseg.volumes.skeletons import Skeletons, read_skeletons, skeleton_files


@dataclass(frozen=True)
class Source:
    """One named volume of a split: the image, and if given its truth and its mask.

    `border_mask` says which truth is too near to a border to be evaluated, `first` is the voxel of
    the stored image at which the image begins, `truth_first` the voxel of the image at which the
    truth begins, which may be smaller.
    """

    name: str
    image: Volume
    label: Volume | None
    mask: Volume | None
    config: VolumeConfig
    border_mask: BorderMask = field(default_factory=BorderMask)
    first: tuple[int, ...] = (0, 0, 0)
    truth_first: tuple[int, ...] = (0, 0, 0)

    @property
    def has_truth(self) -> bool:
        """Whether a segmentation of it can be evaluated."""
        return self.label is not None or self.config.skeletons is not None

    def skeletons(self) -> Skeletons | None:
        """The skeletons of its objects, read on each call; UserError if one leaves the image."""
        if self.config.skeletons is None:
            return None
        if self.image.voxel_size is None:
            raise UserError(f"{self.image.location}: skeletons need data.test.resolution, in nm")
        image = self.image
        found = read_skeletons(
            self.config.skeletons,
            voxel_size=image.voxel_size,
            axes=image.axes,
            offset=image.offset,
        )
        outside = (found.voxels < 0) | (found.voxels >= self.image.shape)
        if outside.any():
            first = found.voxels[outside.any(axis=1)][0].tolist()
            offset = f" and offset {list(image.offset)} nm" if any(image.offset or ()) else ""
            raise UserError(
                f"{self.config.skeletons}: a node at voxel {first} is outside "
                f"{image.location} of shape {image.shape}{offset}"
            )
        return found

    @property
    def truth_region(self) -> Region:
        """The region of the image that has truth: first voxels, and one past the last."""
        return _region(self.truth_first, self.image if self.label is None else self.label)

    def region(self) -> dict[str, Any]:
        """Its file and voxels, in plain containers: `image`, `first` and `stop`."""
        location = parse_location(self.image.location)
        path = location.path if isinstance(location.path, str) else location.path.absolute()
        stop = [a + size for a, size in zip(self.first, self.image.shape, strict=True)]
        image = str(replace(location, path=path))
        return {"image": image, "first": list(self.first), "stop": stop}

    def is_in(self, regions: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one of the regions shares voxels with it, judged by file names."""
        own = self.region()
        return any(
            own["image"] == other["image"]
            and all(a < b for a, b in zip(own["first"], other["stop"], strict=True))
            and all(a < b for a, b in zip(other["first"], own["stop"], strict=True))
            for other in regions
        )

    def labelled(self) -> LabelledVolume:
        """The part with truth, image and truth, as training takes them; UserError without truth."""
        if self.label is None:
            raise UserError(f"the volume '{self.name}' ({self.image.location}) has no label")
        config, region = self.config, self.truth_region
        whole = region == _region((0, 0, 0), self.image)
        return LabelledVolume(
            self.image if whole else self.image.crop(*region),
            self.label,
            self.mask,
            unlabelled=config.unlabelled,
            background=config.background,
            weight=config.weight,
        )

    def unlabelled(self) -> LabelledVolume:
        """Only the image, as training without labels takes it."""
        return LabelledVolume(self.image, weight=self.config.weight)


def open_test(volumes: Mapping[str, VolumeConfig]) -> list[Source]:
    """The open volumes of `data.test`; a single unnamed one is called test_im."""
    return open_sources(volumes, split="test", lone_name="test_im")


def open_sources(
    volumes: Mapping[str, VolumeConfig], *, split: str, lone_name: str | None = None
) -> list[Source]:
    """The open volumes of `data.<split>`, globs expanded, each under a name of its own.

    The name is the volume's own `name`, else its key among several, else, for a single one,
    `lone_name` if given, else the image's file stem or the nearest descriptive folder above; for
    files of a glob the glob's key comes before it. Two volumes of one name, a missing file, a truth
    that does not fit its image and a split without volumes are UserErrors.
    """
    expanded = [one for key, volume in volumes.items() for one in expand(key, volume, split)]
    if not expanded:
        raise UserError(f"data.{split} names no volume: set data.{split}.image")
    named: dict[str, VolumeConfig] = {}
    for key, volume in expanded:
        lone = lone_name if len(expanded) == 1 else None
        name = volume.name or key or lone or image_name(volume.image)
        if name in named:
            raise UserError(
                f"data.{split}: {named[name].image} and {volume.image} are both called '{name}': "
                "give each a name"
            )
        if Path(name).name != name:
            raise UserError(f"data.{split}: the name '{name}' is to be part of a file's name")
        named[name] = volume
    sources = [_open(name, volume, split) for name, volume in named.items()]
    for source in sources[1:]:
        one, other = sources[0].image, source.image
        if split == "train" and one.axes != other.axes:
            _say_once(
                f"warning: {one.location} has axes {one.axes}, {other.location} {other.axes}: "
                "patches of both are taken in their stored order"
            )
    return sources


def require_truth(sources: Sequence[Source], what: str) -> None:
    """Raises a UserError, that `what` needs truth, for the first source without truth."""
    bare = [source.name for source in sources if not source.has_truth]
    if bare:
        raise UserError(f"{what} needs truth: data.test volume '{bare[0]}' has no label")


def within(source: Source, bounds: tuple[float, float] | None) -> Source:
    """The source cropped to `bounds` (voxels, or fractions) along its first axis."""
    return source if bounds is None else cut(source, _range(source.image, bounds, 0))


def cut(source: Source, region: Region) -> Source:
    """The source cropped to a region of its image; UserError if no truth is in it."""
    first, stop = region
    shared = common_region([region, *_truth_regions(source)])
    if shared is None:
        raise UserError(
            f"{source.image.location}: voxels {shown_region(region)} share none with its truth"
        )

    def part(volume: Volume | None) -> Volume | None:
        begin, end = (np.subtract(corner, source.truth_first) for corner in shared)
        return volume and volume.crop(begin.tolist(), end.tolist())

    return replace(
        source,
        image=source.image.crop(first, stop),
        label=part(source.label),
        mask=part(source.mask),
        first=tuple(a + b for a, b in zip(source.first, first, strict=True)),
        truth_first=tuple(a - b for a, b in zip(shared[0], first, strict=True)),
    )


def _truth_regions(source: Source) -> list[Region]:
    parts = [part for part in (source.label, source.mask) if part is not None]
    return [_region(source.truth_first, part) for part in parts]


def _region(first: Sequence[int], volume: Volume) -> Region:
    return tuple(first), tuple(a + size for a, size in zip(first, volume.shape, strict=True))


def _range(image: Volume, bounds: tuple[float, float], axis: int) -> Region:
    first, stop = [0, 0, 0], [*image.shape]
    try:
        first[axis], stop[axis] = resolve_range(bounds, stop[axis])
    except UserError as error:
        raise UserError(f"{image.location}: {error}") from error
    return tuple(first), tuple(stop)


def _open(name: str, config: VolumeConfig, split: str) -> Source:
    """The open volume; for training only the voxels that it shares with label and mask.

    For a test the whole image is predicted, and the truth is the part with label and mask.
    """
    if config.skeletons is not None:
        skeleton_files(Path(config.skeletons))
    image = open_volume(config.image, axes=config.axes, voxel_size=config.resolution)
    refuse_hollow(image)
    asked = _region((0, 0, 0), image)
    if config.range is not None:
        axis = 0 if config.range_axis is None else image.axes.index(config.range_axis)
        asked = _range(image, config.range, axis)
    parts = {
        key: _companion(location, image, config)
        for key, location in (("label", config.label), ("mask", config.mask))
        if location is not None
    }
    for part in parts.values():
        refuse_hollow(part, like=image)
    placed = {key: (part, begins_at(part, image)) for key, part in parts.items()}
    shared = common_region([asked, *(_region(at, part) for part, at in placed.values())])
    if shared is None:
        listed = " and ".join(f"{part.location} from {list(at)}" for part, at in placed.values())
        raise UserError(
            f"{image.location} shares no voxel of {shown_region(asked)} with {listed}, in "
            "voxels of the image by their offsets"
        )
    _report_places(image, placed, asked, shared, scored=split == "test")
    source = _cropped(Source(name, image, None, None, config), asked, shared, split)
    for key, (part, at) in placed.items():
        first, stop = ([a - b for a, b in zip(corner, at, strict=True)] for corner in shared)
        whole = (first, stop) == ([0, 0, 0], [*part.shape])
        source = replace(source, **{key: part if whole else part.crop(first, stop)})
    if source.label is not None:
        check_shapes(source.labelled())
    report_absent(image, *parts.values())
    return source


def _cropped(source: Source, asked: Region, shared: Region, split: str) -> Source:
    taken = asked if split == "test" else shared
    if taken != _region((0, 0, 0), source.image):
        source = cut(source, taken)
    begin = tuple(a - b for a, b in zip(shared[0], taken[0], strict=True))
    return replace(source, truth_first=begin)


def _companion(location: str, image: Volume, config: VolumeConfig) -> Volume:
    """A label or mask in the image's order of axes, without the image's channels."""
    axes = config.axes and "".join(letter for letter in config.axes if letter in "zyx")
    part = open_volume(location, axes=axes).without_lone_channel()
    if image.names_axes and not part.names_axes and axes is None and part.axes != image.axes:
        raise UserError(
            f"{part.location} does not name its axes, its image {image.location} has "
            f"{image.axes}: name the stored order with axes"
        )
    return part.in_order(image.axes)


def _report_places(
    image: Volume,
    placed: Mapping[str, tuple[Volume, tuple[int, ...]]],
    asked: Region,
    shared: Region,
    *,
    scored: bool,
) -> None:
    used = "all of it is predicted, scored" if scored else "used"
    for key, (part, at) in placed.items():
        note = one_sided_offset(part, image)
        if note:
            _say_once(f"warning: {note}")
        if common_region([asked, _region(at, part)]) != asked:
            _say_once(
                f"{key} {part.location} begins at voxel {list(at)} of {image.location}: {used} is "
                f"what they share, voxels {shown_region(shared)} of {shown_region(asked)}"
            )


def _say_once(note: str) -> None:
    if process_rank() == 0:
        say(note)
