"""How much of an input is stored: reported before any work, refused if it is almost nothing."""

import math

from emseg.errors import UserError
from emseg.runs.run_folder import process_rank, say
from emseg.volumes import Volume
from emseg.volumes.formats import presence

# Of an input with more bytes than this, at least a hundredth must be stored.
LARGE = 1 << 30
LEAST_SHARE = 0.01


def refuse_hollow(volume: Volume, *, like: Volume | None = None) -> None:
    """Raises UserError for a volume of more than 1 GiB of which less than 1 % is stored.

    Reading it takes the memory and time of the whole. A volume with the shape of `like`, an image
    that is stored, may be that empty: labels can be few.
    """
    size = math.prod(volume.shape) * (volume.channels or 1) * volume.dtype.itemsize
    if size <= LARGE or (like is not None and like.shape == volume.shape):
        return
    for part in presence(volume.location):
        if part.present < LEAST_SHARE * part.total:
            raise UserError(
                f"{volume.location} declares the shape {volume.shape}, {size / 2**30:.3g} GiB, but "
                f"has {part}: cut it to what is there"
            )


def report_absent(*volumes: Volume) -> None:
    """Prints a line for each volume with absent chunks or numbered sections.

    Absent chunks are read as the fill value, sections are stacked without a gap.
    """
    if process_rank() != 0:
        return
    for volume in volumes:
        missing = volume.attributes.get("missing_sections", [])
        if missing:
            listed = ", ".join(map(str, missing[:6])) + ", ..." * (len(missing) > 6)
            say(
                f"warning: {volume.location}: {len(missing)} sections are missing by the numbers "
                f"of its files ({listed}); what is there is stacked without a gap"
            )
        for part in presence(volume.location):
            if part.absent:
                say(
                    f"warning: {volume.location} has {part}; what is absent is read as the "
                    "fill value"
                )
