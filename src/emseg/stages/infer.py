"""Infer: from a volume to a prediction file, window by window, resumable."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emseg import __version__
from emseg.blocks.memory import memory_within
from emseg.config.schema import Root
from emseg.config.schema_inference import Inference
from emseg.data.intensity import check_intensities, range_of, to_unit
from emseg.data.intensity_ranges import intensities_of, small_part, unlike_trained
from emseg.errors import UserError
from emseg.inference.predict import check_options, predict
from emseg.inference.tta import Ensemble, merged_views
from emseg.inference.window_choice import Windows
from emseg.kernels.symmetry import views
from emseg.models.stride import check_input
from emseg.runs.artifacts import FORMAT_VERSION, contents, find_current, fingerprint, supersede
from emseg.runs.run_folder import say
from emseg.stages.channels import values_of
from emseg.stages.devices import Devices, resolve_devices
from emseg.stages.network import Trained
from emseg.stages.recorded_windows import in_words, least_windows, recorded_windows, windows_of
from emseg.stages.sources import Source
from emseg.volumes import PartialVolume, Volume, default_chunks, identity


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

    `report` is as for `find_current`.
    """
    windows, _ = _windows(source, trained, root, folder)
    wanted = fingerprint("infer", _facts(source, trained, root, windows))
    inputs = [source.image.location]
    return find_current(
        folder, f"{source.name}_prediction", wanted, inputs=inputs, verify=verify, report=report
    )


def check_image(image: Volume, trained: Trained, root: Root) -> None:
    """Raises UserError, before any work, if the network cannot predict the volume."""
    channels = image.channels or 1
    if channels != trained.facts.in_channels:
        raise UserError(
            f"{image.location} has {channels} channels, the network was trained on "
            f"{trained.facts.in_channels}"
        )
    check_settings(trained, root)
    check_intensities(image, **root.data.intensities)


def infer(source: Source, trained: Trained, root: Root, *, folder: Path) -> Path:
    """The path of `<volume>_prediction`, newly made: all channels on the image's own support.

    HDF5, or zarr if the prediction exceeds `system.memory`. An earlier one is replaced at the end;
    after a kill a new run continues from the last finished slab.
    """
    image = source.image
    shape = (len(trained.target.channels), *image.shape)
    windows, begun = _windows(source, trained, root, folder)
    path = begun or folder / f"{source.name}_prediction{_suffix(shape, root)}"
    say(f"{source.name}: {in_words(windows, image.shape, root)}")
    partial = PartialVolume(
        path,
        shape=shape,
        dtype=root.inference.output_dtype,
        chunks=default_chunks(shape),
        axes="c" + image.axes,
        voxel_size=image.voxel_size,
        offset=image.offset,
        attributes=_attributes(source, trained, root, windows),
    )
    try:
        done = partial.done()
        predict_image(image, trained, root, windows=windows, write=partial.write, first_plane=done)
    except UserError:
        if not partial.done():
            partial.discard()
        raise
    partial.finish()
    supersede(path)
    say(f"prediction: {path}")
    return path


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


def predict_image(
    image: Volume,
    trained: Trained,
    root: Root,
    *,
    windows: Windows | None = None,
    write: Callable[[int, np.ndarray], None] | None = None,
    first_plane: int = 0,
) -> np.ndarray | None:
    """The prediction (C, Z, Y, X) as set in the config, or None if `write` gets the planes.

    `windows`: None for those of the config, else chosen.
    """
    config, target = root.inference, trained.target
    intensity_range = range_of(image, **root.data.intensities)
    devices = resolve_devices(root.system)
    device = _device("sw_device", config.window.sw_device, devices)
    windows = windows or windows_of(image, trained, root)
    return predict(
        _placed(trained.net, device),
        image,
        channels=len(target.channels),
        window_size=windows.size,
        normalize=lambda array: to_unit(array, intensity_range=intensity_range),
        sw_batch_size=config.window.sw_batch_size,
        overlap=windows.overlap,
        blending=config.window.blending,
        padding_mode=config.window.padding_mode,
        snap_to_edge=config.window.snap_to_edge,
        pad=config.pad,
        activation=config.activation,
        channel_activations=target.activations,
        output_dtype=config.output_dtype,
        offsets=target.offsets,
        edge_side=target.edge_side or "destination",
        tta=_ensemble(config),
        device=device,
        accumulator_device=_device("output_device", config.window.output_device, devices),
        autocast_dtype=trained.autocast,
        write=write,
        first_plane=first_plane,
    )


def _windows(
    source: Source, trained: Trained, root: Root, folder: Path
) -> tuple[Windows, Path | None]:
    """The windows, and the path of the unfinished prediction with them if there is one.

    A recorded choice stays, even if this machine has other memory.
    """
    name = f"{source.name}_prediction"
    for windows, stored, begun in recorded_windows(folder, name, trained, root):
        wanted = fingerprint("infer", _facts(source, trained, root, windows))
        if stored.get("fingerprint") == wanted:
            return windows, begun
    return windows_of(source.image, trained, root), None


def _device(key: str, asked: str | None, devices: Devices) -> torch.device:
    if asked is None:
        return devices.torch_device
    if asked == "cuda" and devices.accelerator == "cpu":
        say(f"inference.window.{key}=cuda, but no GPU is in use: going on with the CPU")
        return devices.torch_device
    return torch.device(asked)


def _placed(net: nn.Module, device: torch.device) -> nn.Module:
    # On a CPU convolutions are several times faster with channels last.
    last = device.type == "cpu"
    order = torch.channels_last_3d if last else torch.contiguous_format
    return net.to(device=device, memory_format=order)


def _ensemble(config: Inference) -> Ensemble | None:
    asked = config.test_time_augmentation
    if not asked.enabled:
        return None
    chosen = views(asked.flip_axes or (), asked.rotation90_axes or ())
    return Ensemble(chosen, asked.ensemble_mode)


def _suffix(shape: tuple[int, ...], root: Root) -> str:
    size = int(np.prod(shape)) * np.dtype(root.inference.output_dtype).itemsize
    return ".zarr" if size > memory_within(root.system.memory) else ".h5"


def _facts(source: Source, trained: Trained, root: Root, windows: Windows) -> dict[str, Any]:
    """All that determines a prediction; not the devices, the batch or the number of workers."""
    config, image = root.inference, source.image
    tta = config.test_time_augmentation
    return {
        "weights": trained.weights,
        # Settings such as the activation change the result without changing the weights.
        "model": {key: value for key, value in root.model.items() if key != "init_from"},
        "autocast": str(trained.autocast),
        "image": identity(image.location),
        "range": source.config.range and list(source.config.range),
        "range_axis": source.config.range_axis,
        "axes": source.config.axes or image.axes,
        "voxel_size": image.voxel_size and list(image.voxel_size),
        "intensity_range": None,
        # Percentiles only if they are set, so that earlier predictions stay current.
        **{key: list(pair) for key, pair in root.data.intensities.items() if pair is not None},
        **trained.target.stored(),
        "window_size": list(windows.size),
        "overlap": windows.overlap,
        "blending": config.window.blending,
        "padding_mode": config.window.padding_mode,
        "snap_to_edge": config.window.snap_to_edge,
        "pad": list(config.pad),
        "activation": config.activation,
        "output_dtype": config.output_dtype,
        "tta": vars(tta) if tta.enabled else None,
    }


def _attributes(source: Source, trained: Trained, root: Root, windows: Windows) -> dict[str, Any]:
    facts = trained.target.stored()
    facts.pop("activations", None)
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint("infer", _facts(source, trained, root, windows)),
        "contents": contents([source.image.location]),
        "kind": "prediction",
        **facts,
        "activation": values_of(root.inference.activation, trained.target.activations),
        "image": source.image.location,
        "step": trained.facts.global_step,
        "window_size": list(windows.size),
        "window_chosen": windows.chosen,
        "emseg": __version__,
    }


def check_settings(trained: Trained, root: Root) -> None:
    """Raises UserError for settings that do not fit the network or each other."""
    config, target = root.inference, trained.target
    window = least_windows(trained, root).size
    check_input(window, trained.net, key="inference.window.window_size")
    _check_crop(config, target.offsets or [])
    check_options(
        config.output_dtype,
        config.activation,
        config.window.padding_mode,
        config.window.sw_batch_size,
        target.activations,
    )
    ensemble = _ensemble(config)
    if ensemble is not None:
        # Built only for its checks; nothing is predicted.
        merged_views(
            trained.net,
            ensemble,
            window=window,
            offsets=target.offsets or [(0, 0, 0)] * len(target.channels),
            edge_side=target.edge_side or "destination",
        )


def _check_crop(config: Inference, offsets: Sequence[Sequence[int]]) -> None:
    """The prediction always covers exactly the image; crop_pad may only say the same.

    The SNEMI pages subtract the longest offset of the channels in use from the pad at the start,
    because their first planes have no edge; that means the same extent.
    """
    if config.crop_pad is None:
        return
    for axis, pad in enumerate(config.pad):
        lead, trail = config.crop_pad[2 * axis : 2 * axis + 2]
        short = {0, *(abs(offset[axis]) for offset in offsets)}
        if not (pad - lead in short and trail == pad):
            raise UserError(
                f"inference.crop_pad {list(config.crop_pad)} does not crop the pad "
                f"{list(config.pad)} back to the image's support; null derives it"
            )
