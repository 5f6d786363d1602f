"""Evaluate: segmentations against their truth, into metrics.json and a printed table."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.errors import UserError
from emseg.runs.artifacts import check_format, contents, fingerprint, same_contents
from emseg.runs.earlier import SETTINGS
from emseg.runs.run_folder import NAME, add_record, find_record, say, scores_of
from emseg.stages.scores import Scores, asks, build_metrics, counts_suffice, score
from emseg.stages.sources import Source, cut
from emseg.stages.truth import count_overlaps, read_truth, segments_at, truth_facts, truth_files
from emseg.volumes import Volume, check_writable, identity
from emseg.volumes.content import content_now, stored_content
from emseg.volumes.location import parse_location
from emseg.volumes.places import (
    begins_at,
    common_region,
    one_sided_offset,
    open_beside,
    shown_region,
)

# Characters that a line of the printed table may have.
MOST_COLUMNS = 120


def evaluate(
    segmentations: Mapping[str, Path],
    sources: Sequence[Source],
    *,
    metrics: Mapping[str, dict[str, Any]],
    folder: Path,
    force: bool,
    verify: bool,
    allow: Sequence[str] = (),
) -> dict[str, Scores]:
    """Scores per volume (and `mean` over several), also stored as a record in metrics.json.

    A record's key is the fingerprint of segmentations, with a hash of their content, truths and
    metrics: another configuration adds a record, the same one is not computed again.
    """
    labelled = [source for source in sources if source.has_truth]
    if not labelled:
        say("no volume has a label or skeletons: evaluation skipped")
        return {}
    opened = [open_segmentation(segmentations[source.name], source) for source in labelled]
    labelled = [source for _, source in opened]
    segmented = {source.name: volume for volume, source in opened}
    check_writable(folder)
    key, hashes, record = _find(folder, segmented, labelled, metrics, read=force or verify)
    inputs, made = _inputs(segmented, labelled), None
    if force or record is None or (verify and not same_contents(record, inputs)):
        record = made = {
            "volumes": _score_volumes(segmented, labelled, build_metrics(metrics, allow=allow)),
            "metrics": dict(metrics),
            "segmentations": {
                name: {**_origin(one), "content": hashes[name]} for name, one in segmented.items()
            },
            "truths": {source.name: truth_facts(source) for source in labelled},
            "contents": contents(inputs),
            "emseg": __version__,
        }
    else:
        say(f"{NAME} holds this evaluation: not computed again")
    # Only emseg's segmentations are listed; a file of other programs may hold several.
    ours = [one for one in segmented.values() if "fingerprint" in one.attributes]
    add_record(folder, key, made, [parse_location(one.location).path for one in ours])
    volumes = scores_of(record)
    assert volumes is not None
    _report_infinite(volumes)
    return volumes


def table(scores: Mapping[str, Scores]) -> str:
    """The scores as text: a line per volume, a column per number; transposed if too wide."""
    names = list(next(iter(scores.values())))
    cells = [["volume", *names]]
    cells += [[volume, *(f"{row[name]:.4f}" for name in names)] for volume, row in scores.items()]
    if sum(len(name) + 2 for name in names) > MOST_COLUMNS:
        cells = [list(line) for line in zip(*cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for volume, *numbers in cells:
        aligned = [f"{text:>{width}}" for text, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join([f"{volume:{widths[0]}}", *aligned]))
    return "\n".join(lines)


def open_segmentation(
    path: Path, source: Source, *, report: Callable[[str], None] = say
) -> tuple[Volume, Source]:
    """The segmentation of a volume, lazily, and the source cropped to their common part.

    `report` gets a line if that is not all of both.

    UserError if it is none, has another voxel size than the image, or shares no voxel with it.
    """
    volume, image = open_beside(path, source.image), source.image
    # A segmentation of another program has no format version.
    if "format_version" in volume.attributes:
        check_format(path, volume.attributes)
    if volume.channels is not None:
        raise UserError(f"{volume.location} has {volume.channels} channels: it is no segmentation")
    if volume.dtype.kind not in "iub":
        raise UserError(f"{volume.location} holds {volume.dtype}: a segmentation has integers")
    volume = volume.in_order(image.axes)
    begin = begins_at(volume, image)
    note = one_sided_offset(volume, image)
    if note:
        report(f"warning: {note}")
    end = tuple(a + size for a, size in zip(begin, volume.shape, strict=True))
    whole = ((0, 0, 0), tuple(image.shape))
    if (begin, end) == whole:
        return volume, source
    shared = common_region([whole, (begin, end)])
    if shared is None:
        raise UserError(
            f"{volume.location} begins at voxel {list(begin)} of {image.location}, "
            f"which has {list(image.shape)}: they share no voxel"
        )
    if source.config.skeletons is not None:
        raise UserError(
            f"{volume.location} has voxels {shown_region((begin, end))} of {image.location}, which "
            f"has {list(image.shape)}: with skeletons it must have all"
        )
    first, stop = ([a - b for a, b in zip(corner, begin, strict=True)] for corner in shared)
    report(
        f"{volume.location} begins at voxel {list(begin)} of {image.location}: scored is what they "
        f"share, voxels {shown_region(shared)} of {shown_region(whole)}"
    )
    return volume.crop(first, stop), cut(source, shared)


def _score_volumes(
    segmented: Mapping[str, Volume], sources: Sequence[Source], metrics: Sequence[partial]
) -> dict[str, Scores]:
    volumes = {one.name: _score_volume(segmented[one.name], one, metrics) for one in sources}
    if len(volumes) > 1:
        rows = list(volumes.values())
        volumes["mean"] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return volumes


def _report_infinite(volumes: Mapping[str, Scores]) -> None:
    """Prints a line if a mean includes numbers that are not finite: it skips none of them."""
    rows = [row for name, row in volumes.items() if name != "mean"]
    if len(rows) < 2:
        return
    finite = {name: sum(math.isfinite(row[name]) for row in rows) for name in rows[0]}
    parts = [f"{name} ({many} of {len(rows)})" for name, many in finite.items() if many < len(rows)]
    if parts:
        say(f"not finite in every volume, and so in the mean (finite volumes): {', '.join(parts)}")


def _score_volume(segmented: Volume, source: Source, metrics: Sequence[partial]) -> Scores:
    facts: dict[str, Any] = {"metrics": metrics, "voxel_size": source.image.voxel_size}
    facts["skeletons"] = source.skeletons()
    if facts["skeletons"] is not None:
        facts["node_segments"] = segments_at(segmented, facts["skeletons"].voxels)
    truthful = segmented if source.label is None else segmented.crop(*source.truth_region)
    if counts_suffice(metrics):
        if source.label is not None and any(asks(metric, "table") for metric in metrics):
            facts["table"] = count_overlaps(truthful, source)
        return score(None, None, **facts)
    truth = None if source.label is None else read_truth(source)
    return score(truthful[...], truth, **facts)


def _find(
    folder: Path,
    segmented: Mapping[str, Volume],
    sources: Sequence[Source],
    metrics: Mapping[str, Any],
    *,
    read: bool,
) -> tuple[str, dict[str, str | None], dict[str, Any] | None]:
    """The key of the evaluation, the hashes of the segmentations, and the record if there is one.

    The hashes are computed again with `read` or if there is no record, else the stored ones.
    """
    hashes = {name: stored_content(one.attributes) for name, one in segmented.items()}
    key = fingerprint("evaluate", _facts(segmented, hashes, sources, metrics))
    record = find_record(folder, key)
    if not read and record is not None:
        return key, hashes, record
    now = {name: _content_now(one) for name, one in segmented.items()}
    if now != hashes:
        key = fingerprint("evaluate", _facts(segmented, now, sources, metrics))
        record = find_record(folder, key)
    return key, now, record


def _facts(
    segmented: Mapping[str, Volume],
    hashes: Mapping[str, str | None],
    sources: Sequence[Source],
    metrics: Mapping[str, Any],
) -> dict[str, Any]:
    volumes = {
        source.name: {
            "segmentation": _fingerprint_of(segmented[source.name], hashes[source.name]),
            "truth": truth_facts(source),
        }
        for source in sources
    }
    return {"volumes": volumes, "metrics": dict(metrics)}


def _content_now(segmentation: Volume) -> str | None:
    """The hash of its present content; prints a line if it was changed after writing."""
    now = content_now(segmentation.location)
    if now != stored_content(segmentation.attributes):
        change = "was changed after it was written: it is scored as it is now"
        say(f"{segmentation.location} {change}")
    return now


def _inputs(segmented: Mapping[str, Volume], sources: Sequence[Source]) -> list[str]:
    """The files whose bytes no fingerprint covers: foreign segmentations, and truths."""
    foreign = [one.location for one in segmented.values() if "fingerprint" not in one.attributes]
    return foreign + [file for source in sources for file in truth_files(source)]


def _fingerprint_of(segmentation: Volume, content: str | None) -> Any:
    found = segmentation.attributes.get("fingerprint") or identity(segmentation.location)
    # Segmentations of older versions have no hash of content; their scores are still found.
    return found if content is None else [found, content]


def _origin(segmentation: Volume) -> dict[str, Any]:
    facts = {name: segmentation.attributes.get(name) for name in ("fingerprint", *SETTINGS)}
    return {"path": segmentation.location, **facts}
