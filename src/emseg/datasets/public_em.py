"""The public volumes for the pretraining of dbMiM, each in its own file."""

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emseg.datasets.converted import open_expected, write_converted
from emseg.datasets.cremi_files import RAW
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


_CREMI = ("emseg download cremi-official", (125, 1250, 1250), (40, 4, 4), RAW)
_ISBI = (
    "https://downloads.imagej.net/ISBI-2012-challenge.zip (unpacked below it)",
    (30, 512, 512),
    (50, 4, 4),
)
_SNEMI = ("emseg download snemi", (100, 1024, 1024), (30, 6, 6))
# The mixture "publicEM" (ydchen0806/dbMiM).
IMAGES = (
    *(
        PublicImage(f"cremi_{at}", f"sample_{at}_20160501.hdf", f"CREMI 2016, sample {at}", *_CREMI)
        for at in "ABC"
    ),
    PublicImage("isbi2012_train", "train-volume.tif", "ISBI 2012, train volume", *_ISBI),
    PublicImage("isbi2012_test", "test-volume.tif", "ISBI 2012, test volume", *_ISBI),
    PublicImage("snemi3d_train", "train-input.tif", "SNEMI3D, train input", *_SNEMI),
    PublicImage("snemi3d_test", "test-input.tif", "SNEMI3D, test input", *_SNEMI),
)


def convert_public(source: Path, to: Path) -> None:
    """Writes `<name>.h5` for each image that is found by name, down to two folders deep.

    UserError if a file exists twice with different bytes, or is another volume; or, after all
    others are written, if some are missing: which ones, and where to get them.
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
