"""Files as the CREMI challenge has them, written with nothing of ours."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

BACKGROUND, INVALID = 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFE


def official(
    name: str,
    *,
    shape: Sequence[int],
    clefts: np.ndarray | None = None,
    offset: Sequence[float] = (0, 0, 0),
    raw_offset: Sequence[float] | None = None,
) -> np.ndarray:
    """Writes a file, with labels where there are `clefts`, and returns its image."""
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    arrays = {"raw": (image, raw_offset)}
    if clefts is not None:
        arrays |= dict.fromkeys(("labels/neuron_ids", "labels/clefts"), (clefts, offset))
    Path(name).parent.mkdir(exist_ok=True)
    with h5py.File(name, "w") as file:
        file.attrs["file_format"] = "0.2"
        for key, (array, begin) in arrays.items():
            stored = file.create_dataset(f"volumes/{key}", data=array, compression="gzip")
            stored.attrs["resolution"] = (40.0, 4.0, 4.0)
            if begin is not None:
                stored.attrs["offset"] = np.array(begin, float)
    return image
