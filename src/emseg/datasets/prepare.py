"""The volumes of SSNS-Net's recipes, made of what their owners publish: the verb prepare."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import h5py
import numpy as np

from emseg.datasets.by_hand import by_hand
from emseg.datasets.cremi_files import NEURONS, RAW
from emseg.datasets.download import check_archive, check_digits
from emseg.datasets.fetch import check_hash, obtain, recorded
from emseg.datasets.section_images import Stack, contrasts, find_stacks
from emseg.errors import UserError, unknown_name
from emseg.progress import say, track
from emseg.runs.lock import working_in
from emseg.volumes.atomic import replacing
from emseg.volumes.hdf5 import open_hdf5
from emseg.volumes.hdf5_writing import writable_hdf5
from emseg.volumes.location import require_regular
from emseg.volumes.sections import SUFFIXES

FOLDER = "datasets/ssns"
URL = "https://software.rc.fas.harvard.edu/lichtman/vast/AC3AC4Package.zip"
# Sections of the published volumes: the recipes' ranges are in them.
SECTIONS = {"ac3": 256, "ac4": 100}
VOXEL_SIZE = (30.0, 6.0, 6.0)
# How names tell labels from images, and images from all else.
LABELS = ("seg", "label", "daniel", "neuron")
IMAGES = ("_em", "raw", "input", "image")
PARTS = ("train", "unlabelled", "test")
Section = Callable[[int], np.ndarray]
SLAB = 16  # sections held in memory, and the depth of a chunk


def prepare(name: str, folder: str | None = None, *, sha256: str | None = None) -> None:
    """Nothing; `folder` (else `datasets/ssns`) holds the volumes as HDF5 files like CREMI's.

    - `ac3ac4`: `ac3.h5` and `ac4.h5`, from the archive that is fetched as `emseg download` does.
    - `kasthuri15`: `kasthuri15_<part>.h5` of the section images in `<folder>/kasthuri15/<part>`
      (train, unlabelled, test), `raw` and, where there are labels, `labels`.

    Each file has `volumes/raw` (uint8) and, with labels, `volumes/labels/neuron_ids` (uint32), axes
    zyx, 30 x 6 x 6 nm. Files of the same source are left as they are. Labels lie in the order of
    the images or in the reverse one: in which their borders stand out more. UserErrors: a file that
    was not made by this, an archive or images that are not what they should be.
    """
    to = Path(folder or FOLDER)
    if name == "ac3ac4":
        check_digits(sha256)
        _prepare_archive(to, sha256)
    elif name == "kasthuri15":
        if sha256 is not None:
            raise UserError("--sha256 is for the archive of prepare ac3ac4")
        _prepare_exported(to)
    else:
        raise unknown_name("data set", name, ("ac3ac4", "kasthuri15"))


def _prepare_archive(to: Path, sha256: str | None) -> None:
    archive = to / Path(URL).name
    with working_in(to, "emseg prepare"):
        made = {volume: _source_of(to / f"{volume}.h5") for volume in SECTIONS}
        if archive.exists():
            check_archive(archive)
            check_hash(archive, archive, sha256)
        elif None in made.values() or (sha256 and sha256.lower() != recorded(archive)):
            obtain(URL, archive, check=check_archive, sha256=sha256)
        else:
            say(f"ac3ac4: {to} holds it already")
            return
        origin = f"{archive.name}, SHA-256 {recorded(archive)}"
        with ZipFile(archive) as file:
            stacks = find_stacks(file.namelist(), file.read)
            chosen = {volume: _choose(stacks, volume, archive) for volume in SECTIONS}
            for volume, (images, labels) in chosen.items():
                _make(to / f"{volume}.h5", images, labels, origin)


def _choose(stacks: list[Stack], volume: str, archive: Path) -> tuple[Stack, Stack]:
    """The images and the labels of a volume, by the names of the stacks and their sections."""
    mine = [stack for stack in stacks if _volume_of(stack) == volume]
    whole = [stack for stack in mine if len(stack) == SECTIONS[volume]]
    labels = [stack for stack in whole if _is_named(stack, LABELS)]
    images = [stack for stack in whole if stack not in labels]
    if len(images) > 1:
        images = [stack for stack in images if _is_named(stack, IMAGES)]
    for kind, found in (("images", images), ("labels", labels)):
        if len(found) != 1:
            held = "; ".join(f"{stack.name} ({len(stack)})" for stack in found or stacks[:10])
            raise UserError(
                f"{archive} has {len(found) or 'no'} stacks of {SECTIONS[volume]} sections that "
                f"may be the {kind} of {volume.upper()}, but {held or 'no images'}"
            )
    return images[0], labels[0]


def _volume_of(stack: Stack) -> str | None:
    # The innermost folder that says it: the outermost may well name both.
    for part in reversed(PurePosixPath(stack.name).parts):
        named = [volume for volume in SECTIONS if volume in part.lower()]
        if len(named) == 1:
            return named[0]
    return None


def _is_named(stack: Stack, words: tuple[str, ...]) -> bool:
    name = "/".join(PurePosixPath(stack.name).parts[-2:]).lower()
    return any(word in name for word in words)


def _prepare_exported(to: Path) -> None:
    room = to / "kasthuri15"
    found = {part: _exported(room / part) for part in PARTS if (room / part / "raw").is_dir()}
    if not found:
        raise by_hand("kasthuri15", str(to))
    with working_in(to, "emseg prepare"):
        for part, (images, labels, origin) in found.items():
            _make(to / f"kasthuri15_{part}.h5", images, labels, origin)
        missing = [f"{room / part}/raw" for part in PARTS if part not in found]
        if missing:
            say(f"kasthuri15: nothing made of {', '.join(missing)}, which is not there")


def _exported(room: Path) -> tuple[Stack, Stack | None, str]:
    """The images, the labels where there are some, and what tells these files from others."""
    seen = hashlib.sha256()
    stacks: list[Stack | None] = []
    for kind in ("raw", "labels"):
        files = sorted(file for file in (room / kind).glob("*") if file.suffix.lower() in SUFFIXES)
        for file in files:
            require_regular(file)
            stat = file.stat()
            seen.update(f"{kind}/{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        named = [str(file) for file in files]
        found = find_stacks(named, lambda name: Path(name).read_bytes())
        if len(found) != 1 and (kind == "raw" or (room / kind).is_dir()):
            told = "; ".join(stack.name for stack in found) or "none"
            raise UserError(
                f"{room / kind} is to hold one stack of sections (PNG or TIFF), not {told}"
            )
        stacks.append(found[0] if found else None)
    images, labels = stacks
    assert images is not None
    return images, labels, f"{room}, files {seen.hexdigest()}"


def _source_of(path: Path) -> str | None:
    """What a file of ours was made of; None where there is none, UserError for another's."""
    if not path.exists():
        return None
    with open_hdf5(path) as file:
        source = file.attrs.get("prepared_from")
    if source is None:
        # Synthetic ones have the same names.
        raise UserError(f"{path} was not made by prepare: move it away, or take another folder")
    return str(source)


def _make(path: Path, images: Stack, labels: Stack | None, origin: str) -> None:
    if _source_of(path) == origin:
        say(f"{path} is up to date")
        return
    say(f"{path.stem}: images {images.name}, labels {labels.name if labels else 'none'}")
    if labels is not None:
        labels = _ordered(path.stem, images, labels)
    with replacing(path) as partial, writable_hdf5(partial) as file:
        file.attrs["prepared_from"] = origin
        _store(file, RAW, images, images.image, np.uint8)
        if labels is not None:
            _store(file, NEURONS, labels, labels.ids, np.uint32)
        shapes = {file[key].shape for key in (RAW, NEURONS) if key in file}
        if len(shapes) > 1:
            raise UserError(f"{path.stem}: image and labels have the shapes {shapes}")
    say(f"{path}: written")


def _ordered(name: str, images: Stack, labels: Stack) -> Stack:
    """The labels in the order of the images, by what is seen."""
    if len(labels) != len(images):
        raise UserError(
            f"{images.name} has {len(images)} sections, its labels {labels.name} {len(labels)}"
        )
    forward, backward = contrasts(images, labels)
    reverse = backward > forward
    say(
        f"{name}: labels taken in {'the reverse of ' if reverse else ''}the images' order, where "
        f"their borders stand out by {max(forward, backward):.0f} grey values (the other way "
        f"round by {min(forward, backward):.0f})"
    )
    return replace(labels, pages=labels.pages[::-1]) if reverse else labels


def _store(file: h5py.File, key: str, stack: Stack, section: Section, dtype: type) -> None:
    depth, plane = len(stack), section(0).shape
    chunks = (min(SLAB, depth), *(min(128, size) for size in plane))
    packing = "lzf" if dtype is np.uint8 else "gzip"
    stored = file.create_dataset(key, (depth, *plane), dtype, chunks=chunks, compression=packing)
    starts = range(0, depth, SLAB)
    for start in track(starts, total=len(starts), label=f"writing {key}", unit="slabs"):
        parts = [section(z) for z in range(start, min(start + SLAB, depth))]
        for z, part in enumerate(parts, start):
            if part.shape != plane:
                raise UserError(
                    f"{stack.pages[z][0]} has {part.shape} pixels, the first section {plane}"
                )
        stored[start : start + len(parts)] = np.stack(parts)
    stored.attrs["resolution"] = VOXEL_SIZE
    stored.attrs["axes"] = "zyx"
