"""Pictures of sections: labels in colours, errors over the image, PNGs for a page."""

import base64
import io

import numpy as np
from PIL import Image

from emseg.evaluation.table import Contingency

# Colours that the colour-blind tell apart (Okabe and Ito 2008).
MERGED, SPLIT, MISSED = (213, 94, 0), (0, 114, 178), (240, 228, 66)
PARTS = ((230, 159, 0), (86, 180, 233))
# Ids of segments that are no object's largest, so that they have other colours than objects.
_OTHER = np.uint64(1 << 63)


def label_colours(labels: np.ndarray) -> np.ndarray:
    """RGB uint8 (…, 3) of labels: a colour that depends on the id alone, black for 0."""
    scrambled = labels.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    shifts = np.array([16, 32, 48], np.uint64)
    bright = (scrambled[..., None] >> shifts).astype(np.uint8) // 4 * 3 + 64
    return np.where(labels[..., None] == 0, 0, bright).astype(np.uint8)


class Match:
    """Which object is the largest in a segment, and which segment in an object.

    Args:
        table: of the whole volume.
    """

    def __init__(self, table: Contingency) -> None:
        both = (table.truth > 0) & (table.segmentation > 0)
        order = np.lexsort((table.segmentation, table.truth, -table.counts))
        rows = [ids[order][both[order]] for ids in (table.truth, table.segmentation)]
        # The first of each id has most voxels.
        self._objects, first = np.unique(rows[0], return_index=True)
        self._segments, first_of_segment = np.unique(rows[1], return_index=True)
        self._segment_of, self._object_of = rows[1][first], rows[0][first_of_segment]

    def segment_of(self, truth: np.ndarray) -> np.ndarray:
        """Per voxel the largest segment of its object, uint64; 0 without one."""
        return _looked_up(truth, self._objects, self._segment_of)

    def object_of(self, segmentation: np.ndarray) -> np.ndarray:
        """Per voxel the largest object of its segment, uint64; 0 without one."""
        return _looked_up(segmentation, self._segments, self._object_of)

    def coloured(self, segmentation: np.ndarray) -> np.ndarray:
        """RGB of segments: the colour of the object whose largest they are, or one of their own."""
        objects, own = self.object_of(segmentation), segmentation.astype(np.uint64)
        largest = (objects > 0) & (self.segment_of(objects) == own)
        return label_colours(np.where(largest, objects, np.where(own > 0, own | _OTHER, 0)))

    def errors(self, grey: np.ndarray, segmentation: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """RGB of the image with what is wrong over it: `MERGED`, `SPLIT` or `MISSED`."""
        own, known = segmentation.astype(np.uint64), truth > 0
        objects = np.where(known, truth, 0).astype(np.uint64)
        merged = known & (own > 0) & (self.object_of(own) != objects)
        split = known & (own > 0) & ~merged & (self.segment_of(objects) != own)
        picture = rgb(grey)
        for where, colour in ((merged, MERGED), (split, SPLIT), (known & (own == 0), MISSED)):
            picture = blended(picture, where, colour)
        return picture


def _looked_up(ids: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not len(keys):
        return np.zeros(ids.shape, np.uint64)
    places = np.searchsorted(keys, ids.astype(np.uint64)).clip(max=len(keys) - 1)
    return np.where(keys[places] == ids, values[places], 0).astype(np.uint64)


def rgb(grey: np.ndarray) -> np.ndarray:
    """RGB uint8 of grey values, stretched between their 1st and 99th percentile."""
    low, high = np.percentile(grey, (1, 99))
    scaled = (grey.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
    return np.repeat(scaled.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def blended(picture: np.ndarray, where: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The picture, RGB uint8, half covered by the colour at some pixels."""
    half = (picture.astype(np.uint16) + np.array(colour, np.uint16)) // 2
    return np.where(where[..., None], half, picture).astype(np.uint8)


def data_uri(picture: np.ndarray) -> str:
    """The picture (Y, X, 3) uint8 as a PNG inside an address."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
