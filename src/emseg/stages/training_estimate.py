"""What a training will need, before it begins: amount of data, memory, and hours on a CPU."""

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from emseg.blocks.memory import GIB, memory_within
from emseg.config.schema import Root
from emseg.config.schema_data import Dataloader
from emseg.progress import in_words
from emseg.stages.devices import Devices
from emseg.stages.network import AUTOCAST
from emseg.stages.patches import Sources
from emseg.training.objective import Batch, Objective

# Seconds for trying the network, and hours of training above which to warn.
LONGEST_TRIAL, LONG = 20.0, 24.0
# With Adam: the weights, their gradients, two moments; float32.
BYTES_OF_PARAMETER = 16
BYTES_OF_LABEL = 4
# Computing gradients takes more memory than what is stored for them.
WORKING_MEMORY = 1.2
LESS = "data.dataloader.patch_size, data.dataloader.batch_size, model.width"


@dataclass(frozen=True)
class Trial:
    """One training step with a patch of noise: its size, seconds, bytes stored for gradients.

    Only these bytes grow with the size of the patch.
    """

    size: tuple[int, ...]
    seconds: float
    stored: int


def try_step(module: Objective, root: Root, *, seconds: float) -> Trial | None:
    """The step with the largest patch, with batch size 1 on the CPU, that fits into `seconds`.

    None for a foreign objective, whose batches are unknown. The module and the state of the random
    numbers are not changed.
    """
    if not type(module).__module__.startswith("emseg."):
        return None
    module, found = copy.deepcopy(module).train(), None
    precision = AUTOCAST[root.optimization.precision] and torch.bfloat16
    end, sizes = time.monotonic() + seconds, _sizes(module.net, root.data.dataloader.patch)
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", precision, bool(precision)):
        for size in sizes:
            more = 1.0 if found is None else math.prod(size) / math.prod(found.size)
            if found is not None and time.monotonic() + more * found.seconds > end:
                break
            # The first step is slower than later ones, and a small patch is quick.
            tries = 3 if found is None and seconds else 1
            found = min((_learn(module, size) for _ in range(tries)), key=lambda one: one.seconds)
    return found


def first_lines(
    root: Root, module: Objective, sources: Sources, devices: Devices, trial: Trial | None
) -> Iterator[str]:
    """Lines on the size of the training, its memory and, if that is too much, what helps."""
    loader, steps = root.data.dataloader, root.optimization.total_steps
    assert steps is not None
    patches = steps * _patches_per_step(root, devices)
    weights = sum(weight.numel() for weight in module.parameters())
    size = "x".join(map(str, loader.patch))
    line = (
        f"{steps} steps of {_patches_per_step(root, devices)} patches of {size} voxels "
        f"({_si(patches * math.prod(loader.patch))}voxels in all); {_si(weights)}weights"
    )
    volumes = volumes_bytes(sources) if root.data.preload else 0
    if trial is None:
        yield line
        return
    network = network_bytes(module, trial, loader)
    yield f"{line}; memory: {_gib(network)} for the network, {_gib(volumes)} for volumes"
    if devices.accelerator == "cpu":
        memory, where = memory_within(root.system.memory), "there are here"
        needed = network + volumes
    else:
        memory, where = torch.cuda.get_device_properties(0).total_memory, "the GPU has"
        needed = network
    if needed > memory:
        yield f"warning: that is more than the {_gib(memory)} that {where}: lower {LESS}"


def network_bytes(module: Objective, trial: Trial, loader: Dataloader) -> float:
    """The memory of a training step with the loader's patches, without volumes."""
    stored = trial.stored * math.prod(loader.patch) / math.prod(trial.size) * loader.batch
    weights = sum(weight.numel() for weight in module.parameters())
    return weights * BYTES_OF_PARAMETER + WORKING_MEMORY * stored


def hours_line(root: Root, trial: Trial, devices: Devices) -> str:
    """A line on the duration of the training at the speed of the trial."""
    patch, steps = root.data.dataloader.patch, root.optimization.total_steps
    assert steps is not None
    if devices.accelerator == "gpu":
        return "how long it takes on the GPU is measured in its first steps"
    voxels = math.prod(patch) * root.data.dataloader.batch
    voxels *= root.optimization.accumulate_grad_batches
    each = trial.seconds / math.prod(trial.size) * voxels
    line = f"a step takes about {in_words(each)} here, all of them {in_words(each * steps)}"
    if tuple(trial.size) != tuple(patch):
        line += f" (measured on a patch of {list(trial.size)})"
    if each * steps > LONG * 3600:
        line = f"warning: {line}: lower optimization.max_steps or max_epochs, {LESS}, or use a GPU"
    return line


def _sizes(net: nn.Module, patch: Sequence[int]) -> list[tuple[int, ...]]:
    """Patch sizes that the network accepts, from a small one to `patch`."""
    stride = getattr(net, "stride", None)
    if stride is None or getattr(net, "volume_size", None) is not None:
        return [tuple(patch)]
    sizes = [
        tuple(
            min(size, max(2 * step, math.ceil(size / part / step) * step))
            for size, step in zip(patch, stride, strict=True)
        )
        for part in (4, 2, 1)
    ]
    return list(dict.fromkeys(sizes))


def _learn(module: Objective, size: tuple[int, ...]) -> Trial:
    start = time.monotonic()
    with _counted(module) as counted:
        total, _ = module.losses(_noise(module, size))
    total.backward()
    module.zero_grad()
    return Trial(size, time.monotonic() - start, sum(counted.values()))


@contextmanager
def _counted(module: nn.Module) -> Iterator[dict[int, int]]:
    """The bytes, by address, of what is stored for gradients meanwhile, without weights."""
    own = {weight.untyped_storage().data_ptr() for weight in module.parameters()}
    counted: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            counted[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield counted


def _noise(module: Objective, size: tuple[int, ...]) -> Batch:
    """A batch of one sample with all that any of our objectives uses."""
    facts = module.facts
    assert facts is not None
    image = torch.rand(1, facts.in_channels, *size)
    target = torch.rand(1, facts.out_channels if facts.target else 1, *size).round()
    return {
        "image": image,
        "target": target,
        "mask": torch.ones_like(target, dtype=torch.bool),
        "seed": torch.zeros(1, dtype=torch.int64),
        "unlabelled": image,
        "perturbed": image,
    }


def _patches_per_step(root: Root, devices: Devices) -> int:
    together = devices.count * devices.nodes * root.optimization.accumulate_grad_batches
    return root.data.dataloader.batch * together


def volumes_bytes(sources: Sources) -> int:
    """The memory of the volumes in the types that training has them in."""
    volumes = [*sources.train, *sources.val, *sources.unlabelled]
    return sum(
        math.prod(one.image.shape)
        * (
            (one.image.channels or 1) * np.dtype(one.image.dtype).itemsize
            + (one.label is not None) * BYTES_OF_LABEL
        )
        for one in volumes
    )


def _gib(size: float) -> str:
    if size < GIB / 10:
        return "less than 0.1 GiB"
    return f"{size / GIB:.2g} GiB" if size < 10 * GIB else f"{size / GIB:.0f} GiB"


def _si(number: float) -> str:
    for factor, prefix in ((1e9, "billion "), (1e6, "million ")):
        if number >= factor:
            return f"{number / factor:.3g} {prefix}"
    return f"{number} "
