"""Synthetic volumes on disk, in the folders and files that tutorials read."""

import pickle
from pathlib import Path

import numpy as np

from emseg.data.synthetic import synthesize
from emseg.errors import unknown_name
from emseg.volumes import check_writable, write_volume
from emseg.volumes.atomic import replacing

# Large enough for a patch of the recipe with room to sample, small enough for a test to make.
SHAPES = {"demo": (40, 192, 192), "snemi": (32, 256, 256), "nisb": (192, 192, 192)}
VOXEL_SIZES = {"demo": (30.0, 6.0, 6.0), "snemi": (30.0, 6.0, 6.0), "nisb": (9.0, 9.0, 20.0)}
# The cubes of a setting: two to learn from, one to choose by, one to test once.
NISB_CUBES = ("train/seed0", "train/seed1", "val/seed100", "test/seed101")


def write_layout(layout: str, folder: Path, *, seed: int = 0) -> None:
    """Nothing; `folder` holds the data set: `demo`, `snemi` or `nisb`, the same for one seed.

    - demo: `<split>_raw.h5` and `<split>_labels.h5` for the splits train, val and test.
    - snemi: `train-input.tif`, `train-labels.tif`, `test-input.tif` and `test-labels.h5`.
    - nisb: `train/seed0`, `train/seed1`, `val/seed100` and `test/seed101`, each with `data.zarr`
      (zarr v2: `img` uint8 in axes xyzc, `seg` in xyz, without attributes) and `skeleton.pkl`,
      a graph with `id`, `index_position` (voxels) and `nm_position` at its nodes, x first.
    """
    writers = {"demo": _write_demo, "snemi": _write_snemi, "nisb": _write_nisb}
    if layout not in writers:
        raise unknown_name("layout", layout, writers)
    check_writable(folder)
    writers[layout](folder, seed)


def _write_demo(folder: Path, seed: int) -> None:
    for number, split in enumerate(("train", "val", "test")):
        raw, labels = _volume("demo", seed + number)
        for name, array in (("raw", raw), ("labels", labels)):
            write_volume(
                folder / f"{split}_{name}.h5",
                array,
                axes="zyx",
                voxel_size=VOXEL_SIZES["demo"],
                attributes={},
            )


def _write_snemi(folder: Path, seed: int) -> None:
    raw, labels = _volume("snemi", seed)
    _write_tiff(folder / "train-input.tif", raw)
    _write_tiff(folder / "train-labels.tif", labels.astype(np.uint16))
    raw, labels = _volume("snemi", seed + 1)
    _write_tiff(folder / "test-input.tif", raw)
    write_volume(
        folder / "test-labels.h5",
        labels,
        axes="zyx",
        voxel_size=VOXEL_SIZES["snemi"],
        attributes={},
    )


def _write_nisb(folder: Path, seed: int) -> None:
    import zarr

    for number, cube in enumerate(NISB_CUBES):
        made = synthesize(SHAPES["nisb"], seed=seed + number, voxel_size=VOXEL_SIZES["nisb"])
        with replacing(folder / cube / "data.zarr") as partial:
            group = zarr.create_group(str(partial), zarr_format=2)
            for name, array in (("img", made.raw[..., np.newaxis]), ("seg", made.labels)):
                group.create_array(name, data=array, chunks=(64, 64, 64, 1)[: array.ndim])
        with replacing(folder / cube / "skeleton.pkl") as partial:
            partial.write_bytes(pickle.dumps(made.skeletons))


def _volume(layout: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    made = synthesize(SHAPES[layout], seed=seed, voxel_size=VOXEL_SIZES[layout])
    return made.raw, made.labels


def _write_tiff(path: Path, array: np.ndarray) -> None:
    import tifffile

    with replacing(path) as partial:
        tifffile.imwrite(partial, array, photometric="minisblack")
