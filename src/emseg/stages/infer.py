"""Infer: from a volume to a prediction file, window by window, resumable."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emseg import __version__
from emseg.blocks.memory import GIB, memory_within
from emseg.config.schema import Root
from emseg.data.intensity import (
    check_intensities,
    intensities_of,
    small_part,
    unlike_trained,
)
from emseg.errors import UserError
from emseg.inference.settings import Settings
from emseg.runs.artifacts import FORMAT_VERSION, contents, find_current, fingerprint, supersede
from emseg.runs.lock import locked_by, token_of
from emseg.runs.run_folder import say
from emseg.stages.channels import values_of
from emseg.stages.network import Trained
from emseg.stages.prediction_parts import Filling, fill, mask_of
from emseg.stages.prediction_settings import (
    check_settings,
    in_words,
    recorded_settings,
    settings_of,
)
from emseg.stages.sources import Source
from emseg.stages.workers import alone
from emseg.volumes import PartialVolume, Volume, default_chunks, identity
from emseg.volumes.partial import unfinished_attributes

# The settings that a fingerprint has by these names.
_DECISIVE = (
    *("window_size", "overlap", "pad", "snap_to_edge", "padding_mode", "blending"),
    *("activation", "output_dtype"),
)


def current_prediction(
    source: Source,
    trained: Trained,
    root: Root,
    *,
    folder: Path,
    verify: bool,
    report: Callable[[str], None] | None = None,
) -> Path | None:
    """The volume's prediction in the folder if it is what `infer` would make, else None.

    It may also be of all that a mask leaves out. `report` is as for `find_current`.
    """
    settings, _ = _settings(source, trained, root, folder)
    find = partial(find_current, folder, f"{source.name}_prediction", verify=verify, report=report)
    for one in _with_mask_and_without(source):
        wanted = _fingerprint(one, trained, root, settings)
        if found := find(wanted, inputs=_inputs(one, settings)):
            return found
    return None


def check_image(image: Volume, trained: Trained, root: Root) -> None:
    """Raises UserError, before any work, if the network cannot predict the volume."""
    channels, trained_on = image.channels or 1, trained.facts.in_channels
    if channels != trained_on:
        raise UserError(
            f"{image.location} has {channels} channels, the network was trained on {trained_on}"
        )
    check_settings(trained, root)
    check_intensities(image, **root.data.intensities)


def unlike_intensities(image: Volume, trained: Trained, root: Root) -> str | None:
    """A line for the user if the network sees other intensities than in training, else None.

    For checkpoints that did not store theirs: if it sees a small part of the type's range. With
    percentiles the network sees each volume's own range: there is nothing to compare.
    """
    if root.data.intensity_percentiles is not None:
        return None
    given = root.data.intensity_range
    found = intensities_of(image, given)
    if trained.facts.intensities is not None:
        return unlike_trained(image.location, found, trained.facts.intensities)
    return small_part(image.location, found) if given is None else None


def infer(
    source: Source,
    trained: Trained,
    root: Root,
    *,
    folder: Path,
    checkpoint: Path,
    allow: tuple[str, ...] = (),
    shard: tuple[int, int] | None = None,
) -> Path | None:
    """The path of `<volume>_prediction`, newly made: all channels on the image's own support.

    HDF5, or zarr if the prediction exceeds `system.memory`. An earlier one is replaced at the end;
    after a kill a new run predicts what is missing. What `locked_by` names is locked. The last
    `shard` makes the file of what all of them predicted; for the others there is no path yet.
    """
    locked_here = locked_by(folder, source.name, shard)
    find = partial(current_prediction, source, trained, root, folder=folder, verify=False)
    with alone(folder / source.name, shard):
        if shard and (there := find()):
            return there
        settings, volume = _unfinished(source, trained, root, folder)
        unfinished = PartialVolume(**volume)
    say(f"{source.name}: {in_words(settings, source.image.shape, root)}")
    filling = Filling(
        root=root,
        allow=allow,
        checkpoint=checkpoint,
        weights=trained.weights,
        source=source.name,
        volume=volume,
        settings=settings,
        locked=locked_here,
        token=token_of(locked_here),
        folder=Path.cwd(),
    )
    try:
        fill(filling, unfinished, source, trained, shard)
    except UserError:
        if not unfinished.ledger.done and shard is None:
            unfinished.discard()
        raise
    with alone(folder / source.name, shard):
        if shard and (there := find()):
            return there
        unfinished.ledger.refresh()
        left = len(unfinished.cells) - len(unfinished.ledger.done)
        if shard and left:
            parts = f"{left} of {len(unfinished.cells)} parts"
            say(f"shard {shard[0]}/{shard[1]} is done; others have {parts} to predict")
            return None
        unfinished.finish()
        supersede(unfinished.path)
    say(f"prediction: {unfinished.path}")
    return unfinished.path


def _unfinished(
    source: Source, trained: Trained, root: Root, folder: Path
) -> tuple[Settings, dict[str, Any]]:
    """The settings, and the arguments of the `PartialVolume` that becomes the prediction."""
    image = source.image
    settings, begun = _settings(source, trained, root, folder)
    shape, dtype = (len(settings.offsets), *image.shape), settings.output_dtype
    size = math.prod(shape) * np.dtype(dtype).itemsize
    suffix = ".zarr" if size > memory_within(root.system.memory) else ".h5"
    path = begun or folder / f"{source.name}_prediction{suffix}"
    if unfinished_attributes(path) is None:
        _require_disk(folder, size, what=f"the prediction of {source.name}")
    return settings, {
        "path": path,
        "shape": shape,
        "dtype": dtype,
        "chunks": default_chunks(shape),
        "axes": "c" + image.axes,
        "voxel_size": image.voxel_size,
        "offset": image.offset,
        "attributes": prediction_attributes(source, trained, root, settings),
    }


def _settings(
    source: Source, trained: Trained, root: Root, folder: Path
) -> tuple[Settings, Path | None]:
    """The settings, and the path of the unfinished prediction with them if there is one.

    A recorded choice of the window stays, even if this machine has other memory.
    """
    name = f"{source.name}_prediction"
    for settings, stored, begun in recorded_settings(folder, name, trained, root):
        for one in _with_mask_and_without(source):
            if stored.get("fingerprint") == _fingerprint(one, trained, root, settings):
                return settings, begun if one is source else None
    return settings_of(source.image, trained, root), None


def _with_mask_and_without(source: Source) -> list[Source]:
    return [source] if source.mask is None else [source, replace(source, mask=None)]


def _fingerprint(source: Source, trained: Trained, root: Root, settings: Settings) -> str:
    """Of all that determines a prediction; not the devices, the batch or the number of workers."""
    image, volume, tta = source.image, source.config, root.inference.test_time_augmentation
    mask = mask_of(source, settings)
    facts = {
        "weights": trained.weights,
        # Settings such as the activation change the result without changing the weights.
        "model": {key: value for key, value in root.model.items() if key != "init_from"},
        "autocast": str(trained.autocast),
        "image": identity(image.location),
        "range": volume.range and list(volume.range),
        "range_axis": volume.range_axis,
        "axes": volume.axes or image.axes,
        "voxel_size": image.voxel_size and list(image.voxel_size),
        "intensity_range": None,
        # Percentiles only if they are set, so that earlier predictions stay current.
        **{key: list(pair) for key, pair in root.data.intensities.items() if pair is not None},
        **({} if mask is None else {"mask": identity(mask.location)}),
        **trained.target.stored(),
        **{key: getattr(settings, key) for key in _DECISIVE},
        "tta": vars(tta) if tta.enabled else None,
    }
    return fingerprint("infer", facts)


def _inputs(source: Source, settings: Settings) -> list[str]:
    """The files that a prediction is made of."""
    mask = mask_of(source, settings)
    return [volume.location for volume in (source.image, mask) if volume is not None]


def _require_disk(folder: Path, needed: int, *, what: str) -> None:
    """Raises UserError if the folder's disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{what} takes up to {needed / GIB:.2g} GiB, the disk of {folder} has "
            f"{free / GIB:.2g} GiB free (inference.output_dtype=uint8 takes a quarter of float32)"
        )


def prediction_attributes(
    source: Source, trained: Trained, root: Root, settings: Settings
) -> dict[str, Any]:
    """The attributes of the file of a prediction."""
    facts = trained.target.stored()
    activations = facts.pop("activations", None)
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": _fingerprint(source, trained, root, settings),
        "contents": contents(_inputs(source, settings)),
        "kind": "prediction",
        **facts,
        "activation": values_of(settings.activation, activations),
        "image": source.image.location,
        "step": trained.facts.global_step,
        "window_size": list(settings.window_size),
        "window_chosen": root.inference.window.window_size is None,
        "emseg": __version__,
    }
