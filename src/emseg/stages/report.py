"""report.html: what a test found, with pictures, in one file."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from emseg import __version__
from emseg.evaluation import Contingency
from emseg.evaluation.label_errors import LabelError, Voxel, places_of, worst_errors
from emseg.evaluation.run_errors import Place, worst_mergers, worst_splits
from emseg.progress import phase
from emseg.report.page import ErrorRow, Picture, Report, VolumePart, is_of, render
from emseg.report.pictures import (
    MERGED,
    MISSED,
    PARTS,
    SPLIT,
    Match,
    blended,
    data_uri,
    label_colours,
    rgb,
)
from emseg.runs.artifacts import fingerprint
from emseg.stages.evaluate import open_segmentation
from emseg.stages.overview import DEPTHS, MOST_VOLUMES, affinity_section, section_of
from emseg.stages.scores import Scores
from emseg.stages.sources import Source
from emseg.stages.truth import blocks_of, count_overlaps, read_truth, segments_at, truth_facts
from emseg.volumes import Volume, identity, open_volume
from emseg.volumes.atomic import replacing
from emseg.volumes.content import stored_content
from emseg.volumes.skeletons import Skeletons

# The longest side of a section's picture in pixels, and of the cube around an error in voxels.
MOST_PIXELS, SIDE = 640, 96
# Skeletons of a merger that are named.
MOST_NAMED = 5
# The voxels of an error's parts in the box from its first voxel to the one after its last.
Where = Callable[[Sequence[int], Sequence[int]], list[np.ndarray]]
LEGEND = {"merged": MERGED, "split": SPLIT, "not segmented": MISSED}


@dataclass(frozen=True)
class Tested:
    """A volume, its segmentation and perhaps its prediction, on the region that has truth.

    The region begins at voxel `start` of the source's image, voxel `first` of the image's file.
    """

    source: Source
    image: Volume
    segmentation: Volume
    prediction: Path | None
    start: Voxel
    first: Voxel

    @classmethod
    def of(cls, source: Source, segmentation: Path, prediction: Path | None) -> "Tested":
        segmented, source = open_segmentation(segmentation, source, report=lambda _: None)
        start, stop = source.truth_region
        first = tuple(a + b for a, b in zip(source.first, start, strict=True))
        if prediction is not None and open_volume(prediction).shape != source.image.shape:
            prediction = None  # it is of more than is scored
        own = source.image.crop(start, stop), segmented.crop(start, stop)
        return cls(source, *own, prediction, start, first)

    def truth(self, start: Sequence[int], stop: Sequence[int]) -> np.ndarray:
        """The truth of a box, -1 where it is unknown; all of it without any truth."""
        if self.source.label is None:
            return np.full(np.subtract(stop, start), -1)
        return read_truth(self.source, start, stop)


def write_report(
    path: Path,
    sources: Sequence[Source],
    *,
    segmentations: Mapping[str, Path],
    predictions: Mapping[str, Path],
    scores: Mapping[str, Scores],
    metrics: Sequence[Callable[..., Scores]],
    title: str,
    command: str,
    config: str,
) -> None:
    """Writes the page at a path; of many volumes the first `MOST_VOLUMES` have pictures.

    One that is there stays if it was made of the same segmentations, predictions, truths and
    scores: volumes are read twice for it.

    Args:
        scores: by volume; empty if nothing was evaluated.
        metrics: functions, whose docstrings begin with what they are.
        title, command, config: of the run.
    """
    made_of = _made_of(sources, segmentations, predictions, scores)
    if path.is_file() and is_of(path.read_text(errors="replace"), made_of):
        return
    tested = [
        Tested.of(source, segmentations[source.name], predictions.get(source.name))
        for source in sources[:MOST_VOLUMES]
    ]
    facts = {
        "command": command,
        "finished": f"{datetime.now():%Y-%m-%d %H:%M}",
        "versions": f"emseg {__version__}, Python {platform.python_version()}, numpy "
        f"{np.__version__}",
    }
    meanings = {one.__name__: _first_line(one) for one in metrics}
    report = Report(
        title=title,
        scores=scores,
        meanings=meanings,
        volumes=[_part(one) for one in tested],
        facts=facts,
        config=config,
        made_of=made_of,
    )
    with replacing(path) as temporary:
        temporary.write_text(render(report))


def _made_of(
    sources: Sequence[Source],
    segmentations: Mapping[str, Path],
    predictions: Mapping[str, Path],
    scores: Mapping[str, Scores],
) -> str:
    files = [*segmentations.values(), *predictions.values()]
    contents = [stored_content(open_volume(file).attributes) or identity(file) for file in files]
    about = {"files": contents, "truths": [truth_facts(one) for one in sources], "scores": scores}
    return fingerprint("evaluate", about)


def _first_line(metric: Callable[..., Scores]) -> str:
    return (metric.__doc__ or "").partition("\n")[0].replace("`", "")


def _part(tested: Tested) -> VolumePart:
    source = tested.source
    table = None if source.label is None else count_overlaps(tested.segmentation, source)
    size = source.image.voxel_size
    facts = {
        "image": source.image.location,
        "segmentation": tested.segmentation.location,
        "voxels": " x ".join(map(str, tested.image.shape)),
        "voxel size": "unknown" if size is None else f"{' x '.join(f'{n:g}' for n in size)} nm",
    }
    skeletons, errors = source.skeletons(), []
    if table is not None:
        errors += _label_errors(tested, worst_errors(table))
    elif skeletons is not None:
        errors += _run_errors(tested, skeletons)
    colours = {} if table is None else LEGEND
    legend = {name: f"rgb{colour}" for name, colour in colours.items()}
    return VolumePart(source.name, facts, [*_sections(tested, table)], errors, legend)


def _sections(tested: Tested, table: Contingency | None) -> Iterator[Picture]:
    """Raw, affinity, segmentation and, with truth, truth and errors, at a few depths."""
    depth, *section = tested.image.shape
    step = max(1, -(-max(section) // MOST_PIXELS))
    thin = (slice(None, None, step),) * 2
    size = tested.image.voxel_size or (1.0, 1.0, 1.0)
    ratio = section[1] * size[2] / (section[0] * size[1])
    match = None if table is None else Match(table)
    for index in sorted({int(depth * part) for part in DEPTHS}):
        raw = section_of(tested.image, index)
        grey = (raw[0] if raw.ndim == 3 else raw)[thin]
        found = section_of(tested.segmentation, index)[thin]
        pictures = {"raw": rgb(grey)}
        if tested.prediction is not None:
            within = tuple(slice(a, a + n) for a, n in zip(tested.start[1:], section, strict=True))
            affinity = affinity_section(tested.prediction, tested.start[0] + index)[within][thin]
            pictures["affinity"] = affinity if affinity.ndim == 3 else rgb(affinity)
        pictures["segmentation"] = label_colours(found) if match is None else match.coloured(found)
        if match is not None:
            truth = tested.truth((index, 0, 0), (index + 1, *section))[0][thin]
            pictures["truth"] = label_colours(np.maximum(truth, 0))
            pictures["errors"] = match.errors(grey, found, truth)
        for name, picture in pictures.items():
            yield Picture(f"{name} [{tested.first[0] + index}]", data_uri(picture), ratio)


def _label_errors(tested: Tested, errors: Sequence[LabelError]) -> Iterator[ErrorRow]:
    def blocks() -> Iterator[tuple[Sequence[int], np.ndarray, np.ndarray]]:
        for start, stop in blocks_of(tested.source):
            # One voxel more: pairs of neighbours in two blocks.
            stop = [min(at + 1, n) for at, n in zip(stop, tested.image.shape, strict=True)]
            yield start, tested.segmentation.read(start, stop), tested.truth(start, stop)

    with phase("places of the worst errors"):
        places = places_of(errors, blocks()) if errors else []
    for error, place in zip(errors, places, strict=True):
        one, two = error.parts
        what = f"object {error.of} is in segments {one} and {two}"
        if error.kind == "merger":
            what = f"segment {error.of} joins objects {one} and {two}"
        cost = f"{error.voxels} voxels outside the largest part"
        yield _row(tested, error.kind, what, cost, place, partial(_parts, tested, error))


def _parts(
    tested: Tested, error: LabelError, start: Sequence[int], stop: Sequence[int]
) -> list[np.ndarray]:
    """Where the two parts of an error are in a box."""
    of, part = tested.segmentation.read(start, stop), tested.truth(start, stop)
    if error.kind == "split":
        of, part = part, of
    return [(of == error.of) & (part == one) for one in error.parts]


def _run_errors(tested: Tested, skeletons: Skeletons) -> Iterator[ErrorRow]:
    segments = segments_at(tested.segmentation, skeletons.voxels)
    for merger in worst_mergers(segments, skeletons):
        joined = ", ".join(map(str, merger.skeletons[:MOST_NAMED]))
        more = " ..." if len(merger.skeletons) > MOST_NAMED else ""
        what = f"segment {merger.segment} joins skeletons {joined}{more}"
        where = partial(_segments, tested, (merger.segment,))
        yield _row(tested, "merger", what, f"{merger.lost:.0f} nm", _whole(merger.voxel), where)
    for split in worst_splits(segments, skeletons):
        one, two = split.segments
        what = f"skeleton {split.skeleton} is in segments {one} and {two}"
        where = partial(_segments, tested, split.segments)
        yield _row(tested, "split", what, f"{split.lost:.0f} nm", _whole(split.voxels[0]), where)


def _whole(place: Place) -> Voxel:
    z, y, x = map(int, place)
    return z, y, x


def _segments(
    tested: Tested, segments: Sequence[int], start: Sequence[int], stop: Sequence[int]
) -> list[np.ndarray]:
    found = tested.segmentation.read(start, stop)
    return [found == one for one in segments]


def _row(
    tested: Tested, kind: str, what: str, cost: str, place: Voxel | None, where: Where
) -> ErrorRow:
    if place is None:
        return ErrorRow(kind, what, f"{cost}; the two do not touch")
    image, size = tested.image, tested.image.voxel_size
    voxel = ", ".join(str(int(a + b)) for a, b in zip(tested.first, place, strict=True))
    position = ""
    if size is not None:
        axes = zip(image.offset or (0.0, 0.0, 0.0), place, size, strict=True)
        position = ", ".join(f"{origin + at * step:.0f}" for origin, at, step in axes)
    return ErrorRow(kind, what, cost, voxel, position, [*_planes(tested, place, where)])


def _planes(tested: Tested, place: Voxel, where: Where) -> Iterator[Picture]:
    """Three planes through a place: the parts of an error over the image."""
    size = tested.image.voxel_size or (1.0, 1.0, 1.0)
    half = [max(1, round(SIDE * min(size) / n / 2)) for n in size]
    start = [max(a - b, 0) for a, b in zip(place, half, strict=True)]
    stop = [min(a + b + 1, n) for a, b, n in zip(place, half, tested.image.shape, strict=True)]
    raw, parts = tested.image.read(start, stop), where(start, stop)
    grey = raw if raw.ndim == 3 else raw[0]
    for axis, name in enumerate(tested.image.axes):
        at = place[axis] - start[axis]
        picture = rgb(grey.take(at, axis))
        for part, colour in zip(parts, PARTS, strict=False):
            picture = blended(picture, part.take(at, axis), colour)
        down, right = (n for n in range(3) if n != axis)
        ratio = picture.shape[1] * size[right] / (picture.shape[0] * size[down])
        yield Picture(f"{name} = {tested.first[axis] + place[axis]}", data_uri(picture), ratio)
