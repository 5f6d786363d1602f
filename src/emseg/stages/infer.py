"""Infer: from a volume to a prediction file, window by window, resumable."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from emseg import __version__
from emseg.blocks.memory import available_memory
from emseg.config.schema import Inference, Root
from emseg.data.intensity import check_intensities, to_unit
from emseg.errors import UserError
from emseg.inference.predict import predict
from emseg.inference.tta import Ensemble
from emseg.kernels.symmetry import views
from emseg.stages.artifacts import FORMAT_VERSION, fingerprint, is_current
from emseg.stages.devices import Devices, resolve_devices
from emseg.stages.network import Trained, target_facts
from emseg.stages.runs import say
from emseg.stages.sources import Source
from emseg.volumes import PartialVolume, default_chunks, identity

GIB = 1 << 30


def infer(
    source: Source, trained: Trained, root: Root, *, folder: Path, force: bool, verify: bool
) -> Path:
    """The path of `<volume>_prediction`: all channels on the image's own support.

    HDF5, or zarr when the volume exceeds `system.memory`. A file with the same fingerprint is kept;
    a run that was killed goes on from its last finished slab.
    """
    config, image = root.inference, source.image
    window = config.window.window_size or trained.patch_size
    check_intensities(image, intensity_range=root.data.intensity_range)
    attributes = _attributes(source, trained, root, window, verify=verify)
    path = folder / f"{source.name}_prediction{_suffix(source, trained, root)}"
    if not force and is_current(path, attributes["fingerprint"]):
        say(f"{path.name} is up to date: inference skipped")
        return path
    shape = (trained.target.out_channels, *image.shape)
    partial = PartialVolume(
        path,
        shape=shape,
        dtype=config.output_dtype,
        chunks=default_chunks(shape),
        axes="c" + image.axes,
        voxel_size=image.voxel_size,
        offset=image.offset,
        attributes=attributes,
    )
    devices = resolve_devices(root.system)
    predict(
        _placed(trained.net, devices),
        image,
        channels=trained.target.out_channels,
        window_size=window,
        normalize=lambda array: to_unit(array, intensity_range=root.data.intensity_range),
        sw_batch_size=config.window.sw_batch_size,
        overlap=config.window.overlap,
        blending=config.window.blending,
        padding_mode=config.window.padding_mode,
        snap_to_edge=config.window.snap_to_edge,
        pad=config.pad,
        activation=config.activation,
        output_dtype=config.output_dtype,
        offsets=attributes["offsets"],
        edge_side=attributes["edge_side"] or "destination",
        tta=_ensemble(config),
        device=devices.torch_device,
        autocast_dtype=trained.autocast,
        write=partial.write,
        first_plane=partial.done(),
    )
    partial.finish()
    return path


def _placed(net: nn.Module, devices: Devices) -> nn.Module:
    # On a CPU convolutions are several times faster with the channels last.
    last = devices.accelerator == "cpu"
    order = torch.channels_last_3d if last else torch.contiguous_format
    return net.to(device=devices.torch_device, memory_format=order)


def _ensemble(config: Inference) -> Ensemble | None:
    asked = config.test_time_augmentation
    if not asked.enabled:
        return None
    chosen = views(asked.flip_axes or (), asked.rotation90_axes or ())
    return Ensemble(chosen, asked.ensemble_mode)


def _suffix(source: Source, trained: Trained, root: Root) -> str:
    size = np.dtype(root.inference.output_dtype).itemsize
    wanted = trained.target.out_channels * int(np.prod(source.image.shape)) * size
    limit = root.system.memory
    return ".zarr" if wanted > (limit * GIB if limit else available_memory()) else ".h5"


def _attributes(
    source: Source, trained: Trained, root: Root, window: tuple[int, ...], *, verify: bool
) -> dict[str, Any]:
    config, image = root.inference, source.image
    _check_crop(config)
    facts = target_facts(trained.target)
    tta = config.test_time_augmentation
    decides = {
        "weights": trained.weights,
        # Settings such as the activation change the result without changing the weights.
        "model": {key: value for key, value in root.model.items() if key != "init_from"},
        "autocast": str(trained.autocast),
        "image": identity(image.location, verify=verify),
        "range": source.config.range and list(source.config.range),
        "axes": image.axes,
        "intensity_range": root.data.intensity_range and list(root.data.intensity_range),
        **facts,
        "window_size": list(window),
        "overlap": config.window.overlap,
        "blending": config.window.blending,
        "padding_mode": config.window.padding_mode,
        "snap_to_edge": config.window.snap_to_edge,
        "pad": list(config.pad),
        "activation": config.activation,
        "output_dtype": config.output_dtype,
        "tta": vars(tta) if tta.enabled else None,
    }
    values = {"sigmoid": "probability", "scale_sigmoid": "scaled", "none": "logit"}
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": fingerprint("infer", decides),
        "kind": "prediction",
        **facts,
        "activation": values[config.activation],
        "image": image.location,
        "step": trained.step,
        "window_size": list(window),
        "emseg": __version__,
    }


def _check_crop(config: Inference) -> None:
    """The prediction always comes back on the image's support; crop_pad may only say the same.

    The SNEMI page writes the lead one voxel short of the pad for channels whose first plane has no
    edge; that means the same support.
    """
    if config.crop_pad is None:
        return
    for axis, pad in enumerate(config.pad):
        lead, trail = config.crop_pad[2 * axis : 2 * axis + 2]
        if not (pad - 1 <= lead <= pad and trail == pad):
            raise UserError(
                f"inference.crop_pad {list(config.crop_pad)} does not crop the pad "
                f"{list(config.pad)} back to the image's support; null derives it"
            )
