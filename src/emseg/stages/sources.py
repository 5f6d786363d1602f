"""From the volumes that a config names to open volumes with names."""

import glob
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from emseg.config.schema import Volume as VolumeConfig
from emseg.data.sampling import resolve_range
from emseg.errors import UserError
from emseg.volumes import Volume, open_volume

# File stems that say nothing of what is in the file; the folder above is asked instead.
TELLING_NOTHING = {"img", "image", "raw", "em", "main", "data", "volume"}


@dataclass(frozen=True)
class Source:
    """One named volume of a split: the image, and where given its truth and its mask."""

    name: str
    image: Volume
    label: Volume | None
    mask: Volume | None
    config: VolumeConfig


def open_sources(
    volumes: Mapping[str, VolumeConfig], *, split: str, lone_name: str | None = None
) -> list[Source]:
    """The open volumes of `data.<split>`, globs expanded, each under a name of its own.

    A lone unnamed volume is called `lone_name` when one is given. Two volumes of one name, a
    missing file and a split without volumes are UserErrors.
    """
    expanded = [one for key, volume in volumes.items() for one in _expand(key, volume, split)]
    if not expanded:
        raise UserError(f"data.{split} names no volume: set data.{split}.image")
    sources: dict[str, Source] = {}
    for key, volume in expanded:
        lone = len(expanded) == 1 and not key and not volume.name
        name = volume.name or key or (lone_name if lone and lone_name else _stem(volume))
        if name in sources:
            raise UserError(f"data.{split}: two volumes are called '{name}': give each a name")
        sources[name] = _open(name, volume)
    return list(sources.values())


def within(source: Source, bounds: tuple[float, float] | None) -> Source:
    """The source cut to `bounds` along its first axis (voxels, or fractions of it)."""
    if bounds is None:
        return source
    start, stop = resolve_range(bounds, source.image.shape[0])
    cut = [
        None if v is None else _cut(v, start, stop)
        for v in (source.image, source.label, source.mask)
    ]
    assert cut[0] is not None
    return replace(source, image=cut[0], label=cut[1], mask=cut[2])


def _expand(key: str, volume: VolumeConfig, split: str) -> list[tuple[str, VolumeConfig]]:
    image = _joined(volume, volume.image)
    if image is None:
        raise UserError(f"data.{split}{'.' + key if key else ''}.image is missing")
    label, mask = _joined(volume, volume.label), _joined(volume, volume.mask)
    whole = replace(volume, path=None, image=image, label=label, mask=mask)
    if not glob.has_magic(image):
        return [(key, whole)]
    images = _found(image)
    if not images:
        raise UserError(f"data.{split}: no file matches {image}")
    if volume.name is not None and len(images) > 1:
        raise UserError(
            f"data.{split}.name: '{volume.name}' for the {len(images)} files of {image}"
        )
    labels, masks = _matches(label, images, split), _matches(mask, images, split)
    return [
        ("", replace(whole, image=image, label=label, mask=mask))
        for image, label, mask in zip(images, labels, masks, strict=True)
    ]


def _matches(pattern: str | None, images: list[str], split: str) -> list[str | None]:
    if pattern is None:
        return [None] * len(images)
    found: list[str | None] = [*_found(pattern)]
    if len(found) != len(images):
        raise UserError(
            f"data.{split}: {len(images)} images, but {len(found)} files match {pattern}"
        )
    return found


def _found(pattern: str) -> list[str]:
    # The key inside a file (`vol_*.h5:raw`) is no part of the file's name.
    files, colon, key = pattern.partition(":")
    return [f"{file}{colon}{key}" for file in sorted(glob.glob(files))]  # noqa: PTH207


def _joined(volume: VolumeConfig, inner: str | None) -> str | None:
    if inner is None or volume.path is None:
        return inner
    return str(Path(volume.path) / inner)


def _stem(volume: VolumeConfig) -> str:
    path = Path((volume.image or "").partition(":")[0])
    for name in (path.stem, *(parent.stem for parent in path.parents)):
        if name and name not in TELLING_NOTHING:
            return name
    return "volume"


def _open(name: str, config: VolumeConfig) -> Source:
    def opened(location: str | None) -> Volume | None:
        if location is None:
            return None
        return open_volume(location, axes=config.axes, voxel_size=config.resolution)

    image = opened(config.image)
    assert image is not None
    source = Source(name, image, opened(config.label), opened(config.mask), config)
    for other in (source.label, source.mask):
        if other is not None and other.shape != image.shape:
            raise UserError(
                f"{other.location} has shape {other.shape}, "
                f"its image {image.location} {image.shape}"
            )
    return within(source, config.range)


def _cut(volume: Volume, start: int, stop: int) -> Volume:
    return volume.crop((start, 0, 0), (stop, *volume.shape[1:]))
