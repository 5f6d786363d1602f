"""overview.png: raw, affinity, segmentation and truth side by side."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from emseg.report.pictures import label_colours
from emseg.stages.channels import nearest_channels
from emseg.stages.sources import Source
from emseg.volumes import Volume, open_volume, read_attributes
from emseg.volumes.atomic import replacing
from emseg.volumes.content import stored_content
from emseg.volumes.places import open_beside

PANEL_INCHES = 3.2
DEPTHS = (0.25, 0.5, 0.75)

# More rows would exceed the largest canvas (2^16 pixels), and nobody would look at them all.
MOST_VOLUMES = 20


def write_overview(
    path: Path,
    sources: Sequence[Source],
    *,
    predictions: Mapping[str, Path],
    segmentations: Mapping[str, Path],
) -> None:
    """Writes the picture: three slices of axis 0 per volume (at a quarter, half, three quarters).

    Of many volumes the first `MOST_VOLUMES` are drawn. The affinity panel shows the mean of the two
    nearest in-plane channels, so that membranes are dark as in the raw image; other predictions
    show their first channel. Probabilities go from black, 0, to white, 1. The picture's
    `Description` holds the hashes of the content of what it was drawn from, as JSON.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [
        (source, int(source.image.shape[0] * depth))
        for source in sources[:MOST_VOLUMES]
        for depth in DEPTHS
    ]
    figure = Figure(figsize=(4 * PANEL_INCHES, len(rows) * PANEL_INCHES), layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for line, (source, index) in zip(axes, rows, strict=True):
        panels = _panels(
            source, index, predictions.get(source.name), segmentations.get(source.name)
        )
        for axis, (title, image) in zip(line, panels.items(), strict=True):
            axis.set_axis_off()
            axis.set_title(f"{source.name} {title} [{index}]", fontsize=8)
            if image is not None:
                axis.imshow(image, cmap="gray", interpolation="nearest")
    with replacing(path) as partial:
        made_of = {"predictions": _contents(predictions), "segmentations": _contents(segmentations)}
        metadata = {"Description": json.dumps(made_of)}
        figure.savefig(partial, dpi=110, format="png", metadata=metadata)


def _contents(volumes: Mapping[str, Path]) -> dict[str, str | None]:
    return {name: stored_content(read_attributes(path)) for name, path in volumes.items()}


def _panels(
    source: Source, index: int, prediction: Path | None, segmentation: Path | None
) -> dict[str, np.ndarray | None]:
    raw = section_of(source.image, index)
    panels: dict[str, np.ndarray | None] = {"raw": raw[0] if raw.ndim == 3 else raw}
    panels["affinity"] = None if prediction is None else affinity_section(prediction, index)
    panels["segmentation"] = None
    if segmentation is not None:
        segmented = open_beside(segmentation, source.image).in_order(source.image.axes)
        if segmented.shape == source.image.shape:
            panels["segmentation"] = label_colours(section_of(segmented, index))
    # Without truth there is none to be drawn.
    at = index - source.truth_first[0]
    known = source.label is not None and 0 <= at < source.label.shape[0]
    panels["truth"] = label_colours(section_of(source.label, at)) if known else None
    return panels


def affinity_section(prediction: Path, index: int) -> np.ndarray:
    """Section `index` of a prediction as in the picture: RGB (Y, X, 3), or values (Y, X)."""
    volume = open_volume(prediction)
    offsets, values = (volume.attributes.get(key) for key in ("offsets", "activation"))
    channels = nearest_channels(offsets)[1:] if offsets else [0]
    shown = section_of(volume, index).astype(np.float32)[channels].mean(0)
    # One activation for all channels, or one for each.
    if (values if isinstance(values, str) else values[channels[0]]) != "probability":
        return shown
    grey = shown if volume.dtype == np.uint8 else 255 * shown
    # RGB is shown as it is, a single channel is stretched to its own minimum and maximum.
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def section_of(volume: Volume, index: int) -> np.ndarray:
    """Section `index` along the first axis, (Y, X) or (C, Y, X)."""
    section = volume.read((index, 0, 0), (index + 1, *volume.shape[1:]))
    return section[..., 0, :, :]
