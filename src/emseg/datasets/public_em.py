"""The public volumes that dbMiM is pretrained on, each in a file of its own."""

import filecmp
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emseg.datasets.converted import write_converted
from emseg.datasets.cremi_files import RAW
from emseg.errors import UserError
from emseg.runs.lock import working_in
from emseg.volumes import Volume, open_volume

_ISBI = "https://downloads.imagej.net/ISBI-2012-challenge.zip (unpacked below it)"


@dataclass(frozen=True)
class Stack:
    """A public image (uint8; shape and nm in z, y, x), the file it is found in, and where from."""

    name: str
    file: str
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    source: str
    fetch: str
    key: str = ""


# CREMI, ISBI 2012 and SNEMI3D: the mixture "publicEM" (ydchen0806/dbMiM).
STACKS = (
    *(
        Stack(
            name=f"cremi_{sample}",
            file=f"sample_{sample}_20160501.hdf",
            shape=(125, 1250, 1250),
            voxel_size=(40, 4, 4),
            source=f"CREMI 2016, sample {sample}",
            fetch="emseg download cremi-official",
            key=RAW,
        )
        for sample in "ABC"
    ),
    *(
        Stack(
            name=f"isbi2012_{part}",
            file=f"{part}-volume.tif",
            shape=(30, 512, 512),
            voxel_size=(50, 4, 4),
            source=f"ISBI 2012, {part} volume",
            fetch=_ISBI,
        )
        for part in ("train", "test")
    ),
    *(
        Stack(
            name=f"snemi3d_{part}",
            file=f"{part}-input.tif",
            shape=(100, 1024, 1024),
            voxel_size=(30, 6, 6),
            source=f"SNEMI3D, {part} input",
            fetch="emseg download snemi",
        )
        for part in ("train", "test")
    ),
)


def convert_public(source: Path, to: Path) -> None:
    """Nothing; `<name>.h5` is in the folder `to` for each stack that lies below `source`.

    Files are found by their names, down to two folders deep. UserError where one is there twice
    with other bytes, or is another volume, and once all others are written: which ones are missing
    and where they are had.
    """
    if not source.is_dir():
        raise UserError(
            f"{source} is no folder: it is to hold the files of CREMI, ISBI and SNEMI3D"
        )
    found = {stack: _find(stack.file, source) for stack in STACKS}
    volumes = {stack: _open(stack, path) for stack, path in found.items() if path is not None}
    with working_in(to, "emseg convert"):
        for stack, volume in volumes.items():
            kept = {"source": stack.source}
            write_converted(to / f"{stack.name}.h5", volume, np.uint8, attributes=kept)
        missing = [stack for stack in STACKS if stack not in volumes]
        if missing:
            raise UserError(_wanted(missing, source))


def _find(name: str, source: Path) -> Path | None:
    # No deeper, for beside them may lie a zarr of a million files.
    paths = sorted(path for deep in ("", "*/", "*/*/") for path in source.glob(f"{deep}{name}"))
    for path in paths[1:]:
        if not filecmp.cmp(paths[0], path, shallow=False):
            raise UserError(f"{paths[0]} and {path} have one name, but differ: keep one")
    return paths[0] if paths else None


def _open(stack: Stack, path: Path) -> Volume:
    location = f"{path}:{stack.key}" if stack.key else path
    volume = open_volume(location, voxel_size=stack.voxel_size)
    if (volume.shape, volume.dtype, volume.channels) != (stack.shape, np.uint8, None):
        raise UserError(
            f"{volume.location}: {volume.shape} of {volume.dtype} is not {stack.source}, which is "
            f"{stack.shape} of uint8: move it away (synthetic ones have the same names)"
        )
    return volume


def _wanted(missing: list[Stack], source: Path) -> str:
    ways: dict[str, list[str]] = {}
    for stack in missing:
        ways.setdefault(stack.fetch, []).append(stack.file)
    told = "; ".join(f"{', '.join(files)} from {fetch}" for fetch, files in ways.items())
    return f"{len(missing)} of {len(STACKS)} volumes are missing below {source}: {told}"
