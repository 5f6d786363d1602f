"""The public volumes for the pretraining of dbMiM, each in its own file."""

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emseg.datasets.converted import write_converted
from emseg.datasets.cremi_files import RAW
from emseg.datasets.expected import open_expected
from emseg.errors import UserError
from emseg.runs.run_folder import working_in


@dataclass(frozen=True)
class PublicImage:
    """A public image (uint8; shape and nm in z, y, x), its file, and where to get it."""

    name: str
    file: str
    source: str
    fetch: str
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    key: str = ""


def _cremi(sample: str) -> PublicImage:
    file, source = f"sample_{sample}_20160501.hdf", f"CREMI 2016, sample {sample}"
    fetch, shape = "emseg download cremi-official", (125, 1250, 1250)
    return PublicImage(f"cremi_{sample}", file, source, fetch, shape, (40, 4, 4), RAW)


def _isbi(part: str) -> PublicImage:
    file, source = f"{part}-volume.tif", f"ISBI 2012, {part} volume"
    fetch = "https://downloads.imagej.net/ISBI-2012-challenge.zip (unpacked below it)"
    return PublicImage(f"isbi2012_{part}", file, source, fetch, (30, 512, 512), (50, 4, 4))


def _snemi(part: str) -> PublicImage:
    file, source = f"{part}-input.tif", f"SNEMI3D, {part} input"
    fetch, shape = "emseg download snemi", (100, 1024, 1024)
    return PublicImage(f"snemi3d_{part}", file, source, fetch, shape, (30, 6, 6))


# The mixture "publicEM" (ydchen0806/dbMiM).
IMAGES = (
    *map(_cremi, "ABC"),
    *map(_isbi, ("train", "test")),
    *map(_snemi, ("train", "test")),
)


def convert_public(source: Path, to: Path) -> None:
    """Writes `<name>.h5` for each image that is found.

    Args:
        source: where files are searched by name, down to two folders deep.
        to: the folder of the volumes.

    Raises:
        UserError: a file exists twice with different bytes, or is another volume; or, after all
        others are written, some are missing: which ones, and where to get them.
    """
    if not source.is_dir():
        raise UserError(
            f"{source} is no folder: it is to hold the files of CREMI, ISBI and SNEMI3D"
        )
    found = {image: _find(image.file, source) for image in IMAGES}
    volumes = {
        image: open_expected(
            f"{path}:{image.key}" if image.key else path,
            np.uint8,
            what=image.source,
            shape=image.shape,
            voxel_size=image.voxel_size,
        )
        for image, path in found.items()
        if path is not None
    }
    with working_in(to, "emseg convert"):
        for image, volume in volumes.items():
            about = {"source": image.source}
            write_converted(to / f"{image.name}.h5", volume, np.uint8, attributes=about)
        missing = [image for image in IMAGES if image not in volumes]
        if missing:
            raise UserError(_wanted(missing, source))


def _find(name: str, source: Path) -> Path | None:
    # No deeper, because there may be a zarr with a million files.
    paths = sorted(path for deep in ("", "*/", "*/*/") for path in source.glob(f"{deep}{name}"))
    for path in paths[1:]:
        if not filecmp.cmp(paths[0], path, shallow=False):
            raise UserError(f"{paths[0]} and {path} have one name, but differ: keep one")
    return paths[0] if paths else None


def _wanted(missing: Sequence[PublicImage], source: Path) -> str:
    ways: dict[str, list[str]] = {}
    for image in missing:
        ways.setdefault(image.fetch, []).append(image.file)
    listed = "; ".join(f"{', '.join(files)} from {fetch}" for fetch, files in ways.items())
    return f"{len(missing)} of {len(IMAGES)} volumes are missing below {source}: {listed}"
