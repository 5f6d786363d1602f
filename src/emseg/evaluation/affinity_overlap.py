"""How well affinities separate pairs of voxels in one object from other pairs."""

from collections.abc import Sequence

import numpy as np

from emseg.kernels.affinity import EdgeSide
from emseg.volumes import Volume

# A pair is predicted to be in one object from this probability on.
JOINED = 0.5


def affinity_overlap(
    prediction: np.ndarray | Volume,
    truth: np.ndarray,
    *,
    offsets: Sequence[Sequence[int]],
    edge_side: EdgeSide,
) -> dict[str, float]:
    """Dice (`affinity_dice`) and IoU (`affinity_iou`) of the pairs that are joined; 1 is best.

    All channels count together. Pairs with an end outside the volume, or of truth -1, are left out
    (dbMiM's tables count those of the first planes too). Both numbers are 1 if nothing is joined.

    Args:
        prediction: probabilities (C, Z, Y, X), divided by 255 if uint8; a pair is joined from 0.5
            on. A volume is read channel by channel.
        truth: (Z, Y, X); a pair is joined if both ends have the same id above 0.
        offsets: voxels, in the order of the axes, per channel.
        edge_side: where the prediction stores a pair.
    """
    both = predicted = true = 0
    for channel, offset in enumerate(offsets):
        one, two = _ends(truth.shape, offset)
        known = (truth[one] != -1) & (truth[two] != -1)
        same = known & (truth[one] == truth[two]) & (truth[one] > 0)
        joined = known & _joined(prediction, channel)[one if edge_side == "source" else two]
        both += int(np.count_nonzero(same & joined))
        predicted += int(np.count_nonzero(joined))
        true += int(np.count_nonzero(same))
    either = predicted + true - both
    return {
        "affinity_dice": 2 * both / (predicted + true) if either else 1.0,
        "affinity_iou": both / either if either else 1.0,
    }


def _ends(
    shape: Sequence[int], offset: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The slices of v, and of v + offset, for all pairs inside the volume."""
    ranges = [(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, shape, strict=True)]
    one = tuple(slice(a, max(b, a)) for a, b in ranges)
    two = tuple(slice(a + o, max(b, a) + o) for (a, b), o in zip(ranges, offset, strict=True))
    return one, two


def _joined(prediction: np.ndarray | Volume, channel: int) -> np.ndarray:
    if isinstance(prediction, Volume):
        values = prediction.read((0, 0, 0), prediction.shape, channels=[channel])[0]
    else:
        values = prediction[channel]
    return values >= (JOINED * 255 if values.dtype == np.uint8 else JOINED)
