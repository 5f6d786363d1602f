"""From what the config asks for to what the machine has."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from emseg.config.schema import System
from emseg.errors import UserError


@dataclass(frozen=True)
class Devices:
    """What training and inference run on; `warning` is for the user if less was available."""

    accelerator: str
    count: int
    nodes: int
    workers: int
    warning: str | None

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")


def resolve_devices(system: System) -> Devices:
    """The devices for `system`: -1 means all; more than available is reduced with a warning.

    A launcher (torchrun) sets the number of processes, each with a GPU or all on the CPU. Else
    there is one for each GPU, or one on the CPU.
    """
    there = torch.cuda.device_count()
    wanted = there if system.num_gpus == -1 else system.num_gpus
    warning = None
    if wanted > there:
        instead = there or "the CPU"
        warning = f"system.num_gpus={wanted}, but this machine has {there}: going on with {instead}"
        wanted = there
    # Only a launcher sets this; Lightning does not set it for the processes that it starts.
    launched = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
    nodes = int(os.environ["WORLD_SIZE"]) // launched if launched else 1
    if wanted and launched:
        wanted = _shared_out(launched, there)
    count = wanted or launched or 1
    cores = len(os.sched_getaffinity(0))
    # The training process needs its own core; on a GPU it mostly waits.
    workers = max(cores // count - (wanted == 0), 0)
    if system.num_workers != -1:
        workers = system.num_workers
    return Devices("gpu" if wanted else "cpu", count, nodes, workers, warning)


def settled_precision(precision: str, devices: Devices) -> str:
    """The precision, or for `auto` the faster of 32-true and bf16-mixed.

    A CPU has bfloat16 convolutions that are faster than float32's only with AMX; with AVX-512 alone
    they take up to 1.7 times as long.
    """
    if precision != "auto":
        return precision
    if devices.accelerator == "gpu":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_amx_tile_supported()  # PyTorch has no public function for this
    return "bf16-mixed" if fast else "32-true"


def slow_precision(precision: str, devices: Devices) -> str | None:
    """A line for the user if a CPU without bfloat16 instructions is to compute in bfloat16."""
    if precision != "bf16-mixed" or devices.accelerator != "cpu":
        return None
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return None
    return (
        "this CPU has no instructions for bfloat16 and is many times slower with it: "
        "optimization.precision=auto takes 32-true"
    )


def _shared_out(processes: int, gpus: int) -> int:
    if processes > gpus:
        raise UserError(
            f"{processes} processes were launched on a machine with {gpus} GPUs: launch at most "
            f"{gpus}, or set system.num_gpus=0"
        )
    return processes


def stand_resolved(saved: dict[str, Any], devices: Devices, precision: str, mode: str) -> None:
    """Replaces the -1 and `auto` in a config by what they mean here, to be saved with the run."""
    resolved = {
        "num_gpus": devices.count if devices.accelerator == "gpu" else 0,
        "num_workers": devices.workers,
    }
    saved["system"].update(resolved)
    section = saved.get(mode, {}).get("system", {})
    section.update({key: value for key, value in resolved.items() if key in section})
    for part in (saved, saved.get(mode, {})):
        if "precision" in part.get("optimization", {}):
            part["optimization"]["precision"] = precision
