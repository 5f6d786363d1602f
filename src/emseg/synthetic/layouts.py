"""Synthetic volumes on disk, in the folders and files that tutorials read."""

import pickle
from pathlib import Path

import numpy as np

from emseg.errors import unknown_name
from emseg.synthetic.synthesize import SyntheticVolume, synthesize
from emseg.volumes import check_writable, write_volume
from emseg.volumes.atomic import replacing
from emseg.volumes.hdf5_writing import writable_hdf5

# Larger than a patch of the recipe, so that places can be sampled; small enough for tests.
SHAPES = {
    "demo": (40, 192, 192),
    "snemi": (32, 256, 256),
    "nisb": (192, 192, 192),
    "cremi": (92, 320, 320),  # a fifth of its sections is enough for a patch
    "polarity": (32, 224, 224),
    "dbmim": (108, 192, 192),  # the last three tenths of its sections are enough for a patch
    "ac3ac4": (256, 208, 208),  # AC3; the others have the same plane and other numbers of sections
}
VOXEL_SIZES = {
    **dict.fromkeys(("demo", "snemi", "ac3ac4"), (30.0, 6.0, 6.0)),
    **dict.fromkeys(("cremi", "dbmim"), (40.0, 4.0, 4.0)),
    "nisb": (9.0, 9.0, 20.0),
    "polarity": (30.0, 8.0, 8.0),
}
# The cubes of a setting: two for training, one for validation, one for the test.
NISB_CUBES = ("train/seed0", "train/seed1", "val/seed100", "test/seed101")
# Synapses per cubic micrometre: they differ between volumes, as in the challenge.
CREMI_SYNAPSES = {"A": 1.5, "B": 5.0, "C": 8.0}
POLARITY_SYNAPSES = 6.0
# Sections of the volumes other than AC3: as many as the recipes use.
AC3AC4_SECTIONS = {
    "ac4": 100,
    "kasthuri15_train": 100,
    "kasthuri15_unlabelled": 1000,
    "kasthuri15_test": 100,
}
SPLITS = ("train", "val", "test")


def write_layout(layout: str, folder: Path) -> None:
    """Writes a data set of made-up volumes, with the seeds 0, 1, 2, ..., in place of what is there.

    Args:
        layout: a name in `LAYOUTS`, which says which files.
        folder: where they are written.

    Raises:
        UserError: the layout is unknown, or the folder cannot be written.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    check_writable(folder)
    LAYOUTS[layout](folder)


def _write_demo(folder: Path) -> None:
    """`<split>_raw.h5` and `<split>_labels.h5` for each of the splits."""
    for number, split in enumerate(SPLITS):
        made = _made("demo", number)
        _write_hdf5(folder / f"{split}_raw.h5", made.raw, made)
        _write_hdf5(folder / f"{split}_labels.h5", made.labels, made)


def _write_snemi(folder: Path) -> None:
    """Images and labels of two volumes, named as the challenge names them."""
    made = _made("snemi", 0)
    _write_tiff(folder / "train-input.tif", made.raw)
    _write_tiff(folder / "train-labels.tif", made.labels.astype(np.uint16))
    made = _made("snemi", 1)
    _write_tiff(folder / "test-input.tif", made.raw)
    _write_hdf5(folder / "test-labels.h5", made.labels, made)


def _write_nisb(folder: Path) -> None:
    """For each cube `data.zarr` (zarr 2: `img` in axes xyzc, `seg` in xyz) and `skeleton.pkl`."""
    import zarr

    for number, cube in enumerate(NISB_CUBES):
        made = _made("nisb", number)
        with replacing(folder / cube / "data.zarr") as partial:
            group = zarr.create_group(str(partial), zarr_format=2)
            for name, array in (("img", made.raw[..., np.newaxis]), ("seg", made.labels)):
                group.create_array(name, data=array, chunks=(64, 64, 64, 1)[: array.ndim])
        with replacing(folder / cube / "skeleton.pkl") as partial:
            partial.write_bytes(pickle.dumps(made.skeletons))


def _write_cremi(folder: Path) -> None:
    """`im_<volume>.h5` and `syn_<volume>.h5` (clefts); `im_<volume>+.h5` without labels."""
    for number, (volume, density) in enumerate(CREMI_SYNAPSES.items()):
        made = _made("cremi", number, synapses_per_um3=density)
        _write_hdf5(folder / f"im_{volume}.h5", made.raw, made)
        _write_hdf5(folder / f"syn_{volume}.h5", made.clefts.astype(np.uint16), made)
        made = _made("cremi", len(CREMI_SYNAPSES) + number, synapses_per_um3=density)
        _write_hdf5(folder / f"im_{volume}+.h5", made.raw, made)


def _write_polarity(folder: Path) -> None:
    """`<split>_im.h5` and `<split>_syn.h5`: synapse s has the sides 2 s - 1 and 2 s."""
    for number, split in enumerate(SPLITS):
        made = _made("polarity", number, synapses_per_um3=POLARITY_SYNAPSES)
        _write_hdf5(folder / f"{split}_im.h5", made.raw, made)
        _write_hdf5(folder / f"{split}_syn.h5", _sides(made).astype(np.uint16), made)


def _write_dbmim(folder: Path) -> None:
    """Labelled volumes as in the challenge in `CREMI`, two images alone in `public_em`."""
    for number, sample in enumerate("ABC"):
        made = _made("dbmim", number)
        labels = made.labels.astype(np.uint64)
        _write_volumes(folder / "CREMI" / f"sample_{sample}_20160501.hdf", made, labels)
    for number in (1, 2):
        made = _made("dbmim", 2 + number)
        _write_hdf5(folder / "public_em" / f"synthetic_{number}.h5", made.raw, made)


def _write_ac3ac4(folder: Path) -> None:
    """A file of each volume, in CREMI's format."""
    sections, *plane = SHAPES["ac3ac4"]
    volumes = {"ac3": sections, **AC3AC4_SECTIONS}
    for number, (name, depth) in enumerate(volumes.items()):
        made = synthesize((depth, *plane), seed=number, voxel_size=VOXEL_SIZES["ac3ac4"])
        labels = None if name.endswith("_unlabelled") else made.labels
        _write_volumes(folder / f"{name}.h5", made, labels)


def _sides(made: SyntheticVolume) -> np.ndarray:
    """Synapses as 2 s - 1 and 2 s, each side with its half of the cleft."""
    cells = np.zeros((len(made.partners) + 1, 2), np.uint32)
    for synapse, partners in made.partners.items():
        cells[synapse] = partners
    in_pre = (made.pre > 0) | ((made.clefts > 0) & (made.labels == cells[made.clefts, 0]))
    return 2 * np.maximum(made.clefts, np.maximum(made.pre, made.post)) - in_pre


LAYOUTS = {
    "demo": _write_demo,
    "snemi": _write_snemi,
    "nisb": _write_nisb,
    "cremi": _write_cremi,
    "polarity": _write_polarity,
    "dbmim": _write_dbmim,
    "ac3ac4": _write_ac3ac4,
}


def _made(layout: str, seed: int, *, synapses_per_um3: float = 1.5) -> SyntheticVolume:
    size = VOXEL_SIZES[layout]
    return synthesize(SHAPES[layout], seed=seed, voxel_size=size, synapses_per_um3=synapses_per_um3)


def _write_hdf5(path: Path, array: np.ndarray, made: SyntheticVolume) -> None:
    write_volume(path, array, axes="zyx", voxel_size=made.voxel_size)


def _write_volumes(path: Path, made: SyntheticVolume, labels: np.ndarray | None) -> None:
    """Writes one file in CREMI's format: the image, and its labels if there are any."""
    stored = {"raw": made.raw} | ({} if labels is None else {"labels/neuron_ids": labels})
    with replacing(path) as partial, writable_hdf5(partial) as file:
        for key, array in stored.items():
            volume = file.create_dataset(f"volumes/{key}", data=array, compression="gzip")
            volume.attrs["resolution"] = made.voxel_size


def _write_tiff(path: Path, array: np.ndarray) -> None:
    import tifffile

    with replacing(path) as partial:
        tifffile.imwrite(partial, array, photometric="minisblack")
