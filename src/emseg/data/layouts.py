"""Synthetic volumes on disk, in the folders and files that tutorials read."""

from pathlib import Path

import numpy as np

from emseg.data.synthetic import synthesize
from emseg.errors import unknown_name
from emseg.volumes import check_writable, write_volume
from emseg.volumes.atomic import replacing

# Large enough for a patch of the recipe with room to sample, small enough for a test to make.
SHAPES = {"demo": (40, 192, 192), "snemi": (32, 256, 256)}
VOXEL_SIZES = {"demo": (30.0, 6.0, 6.0), "snemi": (30.0, 6.0, 6.0)}


def write_layout(layout: str, folder: Path, *, seed: int = 0) -> None:
    """Nothing; `folder` holds the data set: `demo` or `snemi`, deterministic in the seed.

    - demo: `<split>_raw.h5` and `<split>_labels.h5` for the splits train, val and test.
    - snemi: `train-input.tif`, `train-labels.tif`, `test-input.tif` and `test-labels.h5`.
    """
    writers = {"demo": _write_demo, "snemi": _write_snemi}
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


def _volume(layout: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    made = synthesize(SHAPES[layout], seed=seed, voxel_size=VOXEL_SIZES[layout])
    return made.raw, made.labels


def _write_tiff(path: Path, array: np.ndarray) -> None:
    import tifffile

    with replacing(path) as partial:
        tifffile.imwrite(partial, array, photometric="minisblack")
