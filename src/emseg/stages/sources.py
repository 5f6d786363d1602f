"""From the volumes that a config names to open volumes with names."""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emseg.config.schema import BorderMask
from emseg.config.schema_data import Volume as VolumeConfig
from emseg.data.labelled import LabelledVolume, check_shapes
from emseg.data.sampling import resolve_range
from emseg.errors import UserError
from emseg.stages.stored import refuse_hollow, tell_absent
from emseg.volumes import Volume, open_volume
from emseg.volumes.location import parse_location
from emseg.volumes.skeletons import Skeletons, read_skeletons

# File stems that say nothing of what is in the file; the folder above is asked instead.
TELLING_NOTHING = {"img", "image", "raw", "em", "main", "data", "volume"}

# An image's location (`image`), its first voxels and those beyond the last (`first`, `stop`).
Region = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One named volume of a split: the image, and where given its truth and its mask.

    `border_mask` says what of the truth is too near to a border to be evaluated, `first` at which
    voxel of the stored image it begins.
    """

    name: str
    image: Volume
    label: Volume | None
    mask: Volume | None
    config: VolumeConfig
    border_mask: BorderMask = field(default_factory=BorderMask)
    first: tuple[int, ...] = (0, 0, 0)

    @property
    def has_truth(self) -> bool:
        """Whether a segmentation of it can be evaluated."""
        return self.label is not None or self.config.skeletons is not None

    def skeletons(self) -> Skeletons | None:
        """The skeletons of its objects, read anew; a UserError where one leaves the image."""
        if self.config.skeletons is None:
            return None
        if self.image.voxel_size is None:
            raise UserError(f"{self.image.location}: skeletons need data.test.resolution, in nm")
        found = read_skeletons(
            self.config.skeletons, voxel_size=self.image.voxel_size, axes=self.image.axes
        )
        outside = (found.voxels < 0) | (found.voxels >= self.image.shape)
        if outside.any():
            first = found.voxels[outside.any(axis=1)][0].tolist()
            raise UserError(
                f"{self.config.skeletons}: a node at voxel {first} is outside "
                f"{self.image.location} of shape {self.image.shape}"
            )
        return found

    def region(self) -> Region:
        """Which voxels of which file it is, in plain containers."""
        location = parse_location(self.image.location)
        stop = [a + size for a, size in zip(self.first, self.image.shape, strict=True)]
        image = str(replace(location, path=location.path.absolute()))
        return {"image": image, "first": list(self.first), "stop": stop}

    def is_in(self, regions: Sequence[Region]) -> bool:
        """Whether one of the regions has voxels of it, as far as names of files tell."""
        own = self.region()
        return any(
            own["image"] == other["image"]
            and all(a < b for a, b in zip(own["first"], other["stop"], strict=True))
            and all(a < b for a, b in zip(other["first"], own["stop"], strict=True))
            for other in regions
        )

    def labelled(self) -> LabelledVolume:
        """The image with its truth, as training takes them; a UserError when it has none."""
        if self.label is None:
            raise UserError(f"the volume '{self.name}' ({self.image.location}) has no label")
        config = self.config
        return LabelledVolume(
            self.image,
            self.label,
            self.mask,
            unlabelled=config.unlabelled,
            background=config.background,
            weight=config.weight,
        )

    def unlabelled(self) -> LabelledVolume:
        """The image alone, as training without labels takes it."""
        return LabelledVolume(self.image, weight=self.config.weight)


def open_sources(
    volumes: Mapping[str, VolumeConfig], *, split: str, lone_name: str | None = None
) -> list[Source]:
    """The open volumes of `data.<split>`, globs expanded, each under a name of its own.

    A volume's own `name` counts first, then its key among several, then for a lone one `lone_name`
    where given, else the image's file stem, or the nearest folder above that tells something; files
    of a glob have that behind the glob's key. Two volumes of one name, a missing file, a truth that
    does not fit its image and a split without volumes are UserErrors.
    """
    expanded = [one for key, volume in volumes.items() for one in _expand(key, volume, split)]
    if not expanded:
        raise UserError(f"data.{split} names no volume: set data.{split}.image")
    named: dict[str, VolumeConfig] = {}
    for key, volume in expanded:
        lone = lone_name if len(expanded) == 1 else None
        name = volume.name or key or lone or _telling_name(volume.image)
        if name in named:
            raise UserError(
                f"data.{split}: {named[name].image} and {volume.image} are both called '{name}': "
                "give each a name"
            )
        if Path(name).name != name:
            raise UserError(f"data.{split}: the name '{name}' is to be part of a file's name")
        named[name] = volume
    return [_open(name, volume) for name, volume in named.items()]


def require_truth(sources: Sequence[Source], what: str) -> None:
    """Nothing, or a UserError that `what` needs truth, for the first source that has none."""
    bare = [source.name for source in sources if not source.has_truth]
    if bare:
        raise UserError(f"{what} needs truth: data.test volume '{bare[0]}' has no label")


def within(
    source: Source, bounds: tuple[float, float] | None, *, axis: str | None = None
) -> Source:
    """The source cut to `bounds` (voxels, or fractions) along `axis`, by default the first."""
    if bounds is None:
        return source
    along = 0 if axis is None else source.image.axes.index(axis)
    first, last = [0, 0, 0], [*source.image.shape]
    try:
        first[along], last[along] = resolve_range(bounds, last[along])
    except UserError as error:
        raise UserError(f"{source.image.location}: {error}") from error
    return replace(
        source,
        image=source.image.crop(first, last),
        label=source.label and source.label.crop(first, last),
        mask=source.mask and source.mask.crop(first, last),
        first=tuple(a + b for a, b in zip(source.first, first, strict=True)),
    )


def _expand(key: str, volume: VolumeConfig, split: str) -> list[tuple[str, VolumeConfig]]:
    """The volume with its key; for a glob one for each file, whose name a key goes before."""
    root = Path(volume.path or "")
    image = str(root / volume.image)
    label = volume.label and str(root / volume.label)
    mask = volume.mask and str(root / volume.mask)
    skeletons = volume.skeletons and str(root / volume.skeletons)
    whole = replace(volume, path=None, image=image, label=label, mask=mask, skeletons=skeletons)
    if not _is_pattern(image):
        return [(key, whole)]
    images = _found(image)
    if not images:
        raise UserError(f"data.{split}: no file matches {image}")
    if volume.name is not None and len(images) > 1:
        raise UserError(
            f"data.{split}.name: '{volume.name}' for the {len(images)} files of {image}"
        )
    if skeletons is not None and len(images) > 1:
        raise UserError(
            f"data.{split}.skeletons: {skeletons} for the {len(images)} files of {image}"
        )
    labels, masks = (_matches(one, image, images, split) for one in (label, mask))
    return [
        (key and f"{key}_{_telling_name(one)}", replace(whole, image=one, label=label, mask=mask))
        for one, label, mask in zip(images, labels, masks, strict=True)
    ]


def _is_pattern(location: str) -> bool:
    path = parse_location(location).path
    return glob.has_magic(str(path)) and not path.exists()


def _matches(pattern: str | None, image: str, images: list[str], split: str) -> list[str | None]:
    """The file of the pattern for each of the images, which the pattern `image` has found."""
    if pattern is None:
        return [None] * len(images)
    found: list[str | None] = [*_found(pattern)]
    if len(found) != len(images):
        raise UserError(
            f"data.{split}: {len(images)} images, but {len(found)} files match {pattern}"
        )
    for one, other in zip(images, found, strict=True):
        ours, theirs = _wild_parts(image, one), _wild_parts(pattern, str(other))
        # Patterns that vary in different places cannot be compared.
        if len(ours) == len(theirs) and ours != theirs:
            raise UserError(
                f"data.{split}: {one} would go with {other}: the files of {image} and {pattern} "
                "are not of the same names"
            )
    return found


def _wild_parts(pattern: str, name: str) -> tuple[str, ...]:
    """What stands in the name for each *, ? and [...] of the pattern that has found it."""
    pieces = re.split(r"(\*+|\?|\[!?[^\]]+\])", str(parse_location(pattern).path))
    match = re.fullmatch(
        "".join("(.*)" if at % 2 else re.escape(piece) for at, piece in enumerate(pieces)),
        str(parse_location(name).path),
    )
    return match.groups() if match else ()


def _found(pattern: str) -> list[str]:
    # The key inside a file (`vol_*.h5:raw`) is no part of the file's name.
    location = parse_location(pattern)
    files = sorted(glob.glob(str(location.path)))  # noqa: PTH207
    return [str(replace(location, path=Path(file))) for file in files]


def _telling_name(image: str) -> str:
    path = parse_location(image).path.absolute()
    names = [path.stem, *(folder.name for folder in path.parents)]
    return next((name for name in names if name and name.lower() not in TELLING_NOTHING), path.stem)


def _open(name: str, config: VolumeConfig) -> Source:
    image = open_volume(config.image, axes=config.axes, voxel_size=config.resolution)
    refuse_hollow(image)
    source = Source(
        name, image, _companion(config.label, config), _companion(config.mask, config), config
    )
    for companion in filter(None, (source.label, source.mask)):
        refuse_hollow(companion, like=image)
    if source.label is not None:
        check_shapes(source.labelled())
    tell_absent(image, source.label, source.mask)
    return within(source, config.range, axis=config.range_axis)


def _companion(location: str | None, config: VolumeConfig) -> Volume | None:
    """A label or mask: stored in the image's order of axes, but without its channels."""
    if location is None:
        return None
    axes = config.axes and config.axes.replace("c", "")
    return open_volume(location, axes=axes, voxel_size=config.resolution)
