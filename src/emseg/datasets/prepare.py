"""Makes the volumes of SSNS-Net's recipes from published data: the verb prepare."""

from pathlib import Path, PurePosixPath

import numpy as np

from emseg.datasets.catalogue import instructions
from emseg.datasets.converted import is_current, slabs
from emseg.datasets.cremi_files import NEURONS, RAW
from emseg.datasets.fetch import check_zip, checked_hash, obtain, recorded, unpacked
from emseg.errors import UserError, unknown_name
from emseg.runs.run_folder import say, working_in
from emseg.volumes import Volume, identity, open_volume
from emseg.volumes.atomic import replacing
from emseg.volumes.hdf5_writing import writable_hdf5, write_hdf5
from emseg.volumes.layout import make_layout
from emseg.volumes.location import require_regular
from emseg.volumes.sections import group_by_number, is_section

FOLDER = "datasets/ssns"
URL = "https://software.rc.fas.harvard.edu/lichtman/vast/AC3AC4Package.zip"
# Numbers of sections of the published volumes, on which the recipes' ranges are based.
SECTIONS = {"ac3": 256, "ac4": 100}
VOXEL_SIZE = (30.0, 6.0, 6.0)
# Words in the names of labels, and in those of images.
LABELS = ("seg", "label", "daniel", "neuron")
IMAGES = ("_em", "raw", "input", "image")
PARTS = ("train", "unlabelled", "test")
# The number of sections compared to find the order of labels; more give the same.
COMPARED = 6


def prepare(name: str, folder: str | None = None, *, sha256: str | None = None) -> None:
    """Makes volumes as HDF5 files like CREMI's: `volumes/raw` and `volumes/labels/neuron_ids`.

    They are uint8 and uint32, axes zyx, 30 x 6 x 6 nm. Files of the same source are not changed.
    Labels are in the order of the images or reversed: the order in which their borders stand out
    more.

    Args:
        name: `ac3ac4`, which is fetched as `emseg download` does; or `kasthuri15`, of the section
            images in `<folder>/kasthuri15/<part>` (train, unlabelled, test), `raw` and, where
            there are labels, `labels`.
        folder: where the volumes go, None for `datasets/ssns`.
        sha256: what the hash of the archive must be, None for any; for `ac3ac4` alone.

    Raises:
        UserError: another name, a file was not made by this, or archive or images are not what they
            should be.
    """
    to = Path(folder or FOLDER)
    if name == "ac3ac4":
        _prepare_archive(to, checked_hash(sha256))
    elif name != "kasthuri15":
        raise unknown_name("data set", name, ("ac3ac4", "kasthuri15"))
    elif sha256 is not None:
        raise UserError("--sha256 is for the archive of prepare ac3ac4")
    else:
        _prepare_exported(to)


def _prepare_archive(to: Path, sha256: str | None) -> None:
    archive, paths = to / Path(URL).name, {volume: to / f"{volume}.h5" for volume in SECTIONS}
    with working_in(to, "emseg prepare"):
        for path in paths.values():
            is_current(path, "", verb="prepare")  # Foreign files are refused before any transfer.
        complete = all(path.exists() for path in paths.values())
        if complete and not archive.exists() and sha256 in (None, recorded(archive)):
            say(f"ac3ac4: {to} holds it already")
            return
        obtain(URL, archive, sha256=sha256, check=check_zip)
        source = f"{archive.name}, SHA-256 {recorded(archive)}"
        stale = [one for one in paths if not is_current(paths[one], source, verb="prepare")]
        if stale:
            with unpacked(archive) as files:
                stacks = _find_stacks(files)
                chosen = {volume: _choose(stacks, volume, archive) for volume in stale}
                for volume, (images, labels) in chosen.items():
                    _make(paths[volume], images, labels, source)


def _choose(stacks: dict[str, Volume], volume: str, archive: Path) -> tuple[Volume, Volume]:
    """The images and the labels of a volume, by the names of the stacks and their sections."""
    depth = SECTIONS[volume]
    whole = [at for at, one in stacks.items() if _volume_of(at) == volume and one.shape[0] == depth]
    labels = [name for name in whole if _is_named(name, LABELS)]
    images = [name for name in whole if name not in labels]
    if len(images) > 1:
        images = [name for name in images if _is_named(name, IMAGES)]
    for kind, found in (("images", images), ("labels", labels)):
        if len(found) != 1:
            held = "; ".join(f"{name} ({stacks[name].shape[0]})" for name in found or stacks)
            raise UserError(
                f"{archive} has {len(found) or 'no'} stacks of {depth} sections that may be the "
                f"{kind} of {volume.upper()}, but {held or 'no images'}"
            )
    return stacks[images[0]], stacks[labels[0]]


def _volume_of(name: str) -> str | None:
    # The innermost folder decides: the outermost may name both.
    for part in reversed(PurePosixPath(name).parts):
        named = [volume for volume in SECTIONS if volume in part.lower()]
        if len(named) == 1:
            return named[0]
    return None


def _is_named(name: str, words: tuple[str, ...]) -> bool:
    last = "/".join(PurePosixPath(name).parts[-2:]).lower()
    return any(word in last for word in words)


def _prepare_exported(to: Path) -> None:
    exports = {part: to / "kasthuri15" / part for part in PARTS}
    there = {part: folder for part, folder in exports.items() if (folder / "raw").is_dir()}
    if not there:
        raise instructions("kasthuri15", str(to))
    found = {
        part: [_only_stack(folder / kind) for kind in ("raw", "labels") if (folder / kind).is_dir()]
        for part, folder in there.items()
    }
    with working_in(to, "emseg prepare"):
        for part, (images, *labels) in found.items():
            path = to / f"kasthuri15_{part}.h5"
            source = ", ".join(str(identity(one.location)) for one in (images, *labels))
            if not is_current(path, source, verb="prepare"):
                _make(path, images, labels[0] if labels else None, source)
        missing = [f"{folder}/raw" for part, folder in exports.items() if part not in there]
        if missing:
            say(f"kasthuri15: nothing made of {', '.join(missing)}, which is not there")


def _only_stack(folder: Path) -> Volume:
    stacks = {name: one for name, one in _find_stacks(folder).items() if "/" not in name}
    if len(stacks) != 1:
        raise UserError(
            f"{folder} is to hold one stack of sections (PNG, JPEG or TIFF), not "
            f"{'; '.join(stacks) or 'none'}"
        )
    return next(iter(stacks.values()))


def _make(path: Path, images: Volume, labels: Volume | None, source: str) -> None:
    say(f"{path.stem}: images {images.location}, labels {labels.location if labels else 'none'}")
    reverse = labels is not None and _is_reversed(path.stem, images, labels)
    with replacing(path) as partial:
        _store(partial, RAW, images)
        if labels is not None:
            _store(partial, NEURONS, labels, reverse=reverse)
        with writable_hdf5(partial) as file:
            file.attrs["prepared_from"] = source
    say(f"{path}: written")


def _is_reversed(name: str, images: Volume, labels: Volume) -> bool:
    """Whether the labels are in the reverse order of the images, judged by their borders."""
    if labels.shape != images.shape:
        raise UserError(
            f"{images.location} has the shape {images.shape}, its labels {labels.location} "
            f"{labels.shape}"
        )
    forward, backward = _contrasts(images, labels)
    reverse = backward > forward
    say(
        f"{name}: labels taken in {'the reverse of ' if reverse else ''}the images' order, where "
        f"their borders stand out by {max(forward, backward):.0f} grey values (the other way "
        f"round by {min(forward, backward):.0f})"
    )
    return reverse


def _store(file: Path, key: str, stack: Volume, *, reverse: bool = False) -> None:
    read, dtype = (_grey, np.uint8) if key == RAW else (_ids, np.uint32)
    order = range(stack.shape[0])[:: -1 if reverse else 1]
    layout = make_layout(stack.shape, dtype, axes="zyx", voxel_size=VOXEL_SIZE, dataset=key)
    parts = slabs(len(order), f"writing {key}")
    voxels = ((first, np.stack([read(stack, z) for z in order[first:end]])) for first, end in parts)
    write_hdf5(file, voxels, layout)


def _find_stacks(folder: Path) -> dict[str, Volume]:
    """The stacks below a folder, by the common part of their file names.

    A stack is a TIFF of several pages, or images of one folder that differ in a number. UserError
    if a number between its first and last is missing.
    """
    by_folder: dict[Path, list[str]] = {}
    stacks = {}
    for file in sorted(file for file in folder.rglob("*") if is_section(file.name)):
        if "__MACOSX" in file.parts:
            continue
        require_regular(file)
        pages = open_volume(file) if file.suffix.lower() in (".tif", ".tiff") else None
        if pages is not None and pages.shape[0] > 1:
            stacks[str(file.relative_to(folder))] = pages
        else:
            by_folder.setdefault(file.parent, []).append(file.name)
    for parent, names in by_folder.items():
        for common in group_by_number(names):
            name = str((parent / common).relative_to(folder))
            if "*" in common:
                stacks[name] = volume = open_volume(f"{parent}:{common}")
                for missing in volume.attributes.get("missing_sections", ()):
                    raise UserError(f"{name}: section {missing} is missing")
    return stacks


def _grey(volume: Volume, section: int) -> np.ndarray:
    """Grey values (Y, X), uint8, of a section, which may be a grey colour image."""
    found = _pixels(volume, section)
    if found.ndim == 3 and (found == found[0]).all():
        found = found[0]
    if found.ndim != 2 or found.dtype != np.uint8:
        kind = "colours" if found.ndim == 3 else found.dtype
        raise UserError(f"{volume.location} holds {kind}: an image is grey, uint8")
    return found


def _ids(volume: Volume, section: int) -> np.ndarray:
    """Ids (Y, X), uint32, of a section: its numbers, or for colours red 2^16 + green 2^8 + blue."""
    found = _pixels(volume, section)
    if found.dtype.kind not in "iu" or (found.ndim == 3 and found.dtype != np.uint8):
        raise UserError(f"{volume.location} holds {found.dtype}: labels are integers")
    if found.min() < 0:
        raise UserError(f"{volume.location} holds {found.min()}: ids are positive")
    if found.ndim == 2:
        return found.astype(np.uint32)
    red, green, blue = found.astype(np.uint32)
    return (red << 16) | (green << 8) | blue


def _contrasts(images: Volume, labels: Volume) -> tuple[float, float]:
    """The contrast of label borders in grey values, in the given order and in the reverse one.

    The mean over a few sections from the first third, where orders differ most.
    """
    depth = images.shape[0]
    chosen = np.unique(np.linspace(0, (depth - 1) // 3, COMPARED).astype(int)).tolist()
    found = [
        [_contrast(_grey(images, z), _ids(labels, at)) for at in (z, depth - 1 - z)] for z in chosen
    ]
    forward, backward = np.mean(found, axis=0).tolist()
    return forward, backward


def _contrast(image: np.ndarray, labels: np.ndarray) -> float:
    border = labels[:, 1:] != labels[:, :-1]
    if border.all() or not border.any():
        return 0.0
    values = image[:, 1:].astype(np.float64)
    return float(abs(values[border].mean() - values[~border].mean()))


def _pixels(volume: Volume, section: int) -> np.ndarray:
    found = volume.read((section, 0, 0), (section + 1, *volume.shape[1:]))
    return found[..., 0, :, :]
