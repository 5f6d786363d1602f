"""How much of an input is stored: said before any work, refused where it is next to nothing."""

import math

from emseg.errors import UserError
from emseg.stages.runs import say
from emseg.volumes import Volume
from emseg.volumes.presence import presence

# Of an image, a prediction or a segmentation: a larger one of which less is stored is no volume.
LARGE = 1 << 30
LEAST_SHARE = 0.01


def tell_absent(volume: Volume, *, sparse: bool = False) -> None:
    """Prints a line when chunks of the volume are absent, which are read as its fill value.

    UserError for more than 1 GiB of which less than a hundredth is stored, unless it may be
    `sparse`, as labels are: reading that takes the memory and time of the whole.
    """
    for part in presence(volume.location):
        size = math.prod(volume.shape) * (volume.channels or 1) * volume.dtype.itemsize
        if not sparse and size > LARGE and part.present < LEAST_SHARE * part.total:
            raise UserError(
                f"{volume.location} declares the shape {volume.shape}, {size / 2**30:.3g} GiB, but "
                f"has {part}: cut it to what is there"
            )
        if part.absent:
            say(f"warning: {volume.location} has {part}; what is absent is read as the fill value")
