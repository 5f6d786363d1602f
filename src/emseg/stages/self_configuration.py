"""What a config leaves to the program with `auto`: the training's patch and batch, the width."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emseg.blocks.memory import GIB, memory_within
from emseg.config import Loaded
from emseg.data.targets import Target
from emseg.stages.built_objective import build_objective, facts_before
from emseg.stages.devices import Devices
from emseg.stages.network import trained_facts, trained_width
from emseg.stages.patches import Sources
from emseg.stages.training_estimate import network_bytes, try_step, volumes_bytes
from emseg.training.checkpoints import read_checkpoint
from emseg.training.facts import Facts

AUTO = "auto"
# Voxels of a patch. On a CPU many small steps teach more in the same time (docs/fib25.md); a GPU is
# hardly busy with so few.
VOXELS = {"cpu": 32**3, "gpu": 128**3}
# Channels of the finest level, doubled from level to level up to a most.
FIRST_WIDTH, LAST_WIDTH = {"cpu": 24, "gpu": 32}, {"cpu": 96, "gpu": 256}
# A batch of one small patch is slow on a CPU, and its gradients are noisy anywhere.
BATCH = 2
# Data, augmentation and the rest of the machine need memory too.
SHARE_OF_MEMORY = 0.5

Size = tuple[int, int, int]


def settle_width(loaded: Loaded, checkpoint: Path | None, devices: Devices) -> list[str]:
    """Replaces `model.width: auto` by a width for each level, and returns a line about it.

    A training that goes on from a checkpoint has the widths that it had.
    """
    model, kind = loaded.root.model, devices.accelerator
    if model.get("width") != AUTO:
        return []
    if checkpoint is None:
        levels = len(model["down_factors"]) + 1
        width = [min(FIRST_WIDTH[kind] << level, LAST_WIDTH[kind]) for level in range(levels)]
        reason = f"one for each of {levels} levels, for a {kind.upper()}"
    else:
        width, reason = trained_width(_facts(checkpoint)), "as before"
    model["width"] = width
    _save(loaded, ("model", "width"), width)
    return [f"model.width=auto: {width}, {reason}"]


def settle_patches(
    loaded: Loaded,
    checkpoint: Path | None,
    sources: Sources,
    target: Target | None,
    devices: Devices,
) -> list[str]:
    """Replaces `auto` in `data.dataloader`, and returns lines on what was chosen and why.

    A training that goes on from a checkpoint has the patches that it had.
    """
    loader, lines = loaded.root.data.dataloader, []
    if loader.batch_size == AUTO:
        loader.batch_size = BATCH
        _save(loaded, ("data", "dataloader", "batch_size"), BATCH)
        lines.append(f"data.dataloader.batch_size=auto: {BATCH}, the least that averages gradients")
    if loader.patch_size == AUTO:
        if checkpoint is None:
            reason = _choose_patch(loaded, sources, target, devices)
        else:
            loader.patch_size, reason = _facts(checkpoint).patch_size, "as before"
        _save(loaded, ("data", "dataloader", "patch_size"), list(loader.patch))
        lines.append(f"data.dataloader.patch_size=auto: {list(loader.patch)}, {reason}")
    return lines


def _choose_patch(loaded: Loaded, sources: Sources, target: Target | None, devices: Devices) -> str:
    """Sets the patch size, and returns why. A step with a small patch tells the memory."""
    loader, voxel_size = loaded.root.data.dataloader, _voxel_size(sources)
    loader.patch_size = (1, 1, 1)
    # The seed's numbers are for the network that is trained.
    with torch.random.fork_rng(devices=[]):
        module = build_objective(loaded, facts_before(loaded, target, sources), devices)
    # A network that takes images of one size alone has all of it as its stride.
    stride = getattr(module.net, "volume_size", None) or getattr(module.net, "stride", (1, 1, 1))
    offsets = target.offsets if target and target.offsets else [(0, 0, 0)]
    # An edge must fit into the patch.
    reach = [max(abs(one) for one in axis) + 1 for axis in zip(*offsets, strict=True)]
    shape, voxels = _smallest(sources), VOXELS[devices.accelerator]
    memory = SHARE_OF_MEMORY * _memory(loaded, sources, devices)
    loader.patch_size = fitting_patch(voxels, reach, shape, stride, voxel_size)
    trial = try_step(module, loaded.root, seconds=0)
    while trial and network_bytes(module, trial, loader) > memory and voxels > math.prod(stride):
        voxels //= 2
        loader.patch_size = fitting_patch(voxels, reach, shape, stride, voxel_size)
    needed = network_bytes(module, trial, loader) if trial else 0
    return (
        f"about {voxels} voxels, alike along all axes in nm as far as the network's stride "
        f"{list(stride)} and the smallest volume {list(shape)} allow; a step takes "
        f"{needed / GIB:.2g} GiB of the {memory / GIB:.2g} that it may"
    )


def fitting_patch(
    voxels: int,
    least: Sequence[int],
    most: Sequence[int],
    stride: Sequence[int],
    voxel_size: Sequence[float],
) -> Size:
    """The patch nearest to a number of voxels whose sides are as alike, in nm, as they can be.

    Args:
        voxels: the number.
        least, most: voxels per axis. Even if there is no such multiple of `stride`, the patch has
            at least `least` and is at least one `stride` long.
        stride: of the network; each side is a multiple of it.
        voxel_size: nm per axis.
    """
    steps = np.array(stride)
    low = -(-np.array(least) // steps) * steps
    high = np.maximum(np.array(most) // steps * steps, low)
    nm = np.array(voxel_size)
    lengths = np.geomspace((low * nm).min(), (high * nm).max(), 2000)
    sizes = np.clip(np.rint(lengths[:, None] / nm / steps) * steps, low, high).astype(np.int64)
    z, y, x = sizes[np.abs(np.log(sizes.prod(1) / voxels)).argmin()].tolist()
    return z, y, x


def _facts(checkpoint: Path) -> Facts:
    return trained_facts(read_checkpoint(checkpoint), source=checkpoint)


def _smallest(sources: Sources) -> Size:
    """The least length of each axis among all volumes."""
    every = (*sources.train, *sources.val, *sources.unlabelled)
    z, y, x = (min(lengths) for lengths in zip(*(one.image.shape for one in every), strict=True))
    return z, y, x


def _voxel_size(sources: Sources) -> tuple[float, float, float]:
    """That of the first volume that says one, else equal sides."""
    known = (one.image.voxel_size for one in sources.train if one.image.voxel_size)
    return next(known, (1.0, 1.0, 1.0))


def _memory(loaded: Loaded, sources: Sources, devices: Devices) -> int:
    if devices.accelerator == "gpu":
        return int(torch.cuda.get_device_properties(0).total_memory)
    own = volumes_bytes(sources) if loaded.root.data.preload else 0
    return max(memory_within(loaded.root.system.memory) - own, 0)


def _save(loaded: Loaded, path: Sequence[str], value: Any) -> None:
    """Writes the value where the saved config, or its section for training, has `auto`."""
    for node in (loaded.saved, loaded.saved.get("train", {})):
        *above, key = path
        for name in above:
            node = node.get(name, {})
        if node.get(key) == AUTO:
            node[key] = value
