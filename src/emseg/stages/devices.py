"""From what the config asks for to what the machine has."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from emseg.config.schema import System


@dataclass(frozen=True)
class Devices:
    """What training and inference run on; `warning` is for the user when less was there."""

    accelerator: str
    count: int
    nodes: int
    workers: int
    warning: str | None

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda" if self.accelerator == "gpu" else "cpu")


def resolve_devices(system: System) -> Devices:
    """The devices for `system`: -1 means all; more than there are is cut with a warning.

    Without a GPU the processes are those that the launcher (torchrun) started, else one.
    """
    there = torch.cuda.device_count()
    wanted = there if system.num_gpus == -1 else system.num_gpus
    warning = None
    if wanted > there:
        warning = f"system.num_gpus={wanted}, but this machine has {there}: going on with {there}"
        wanted = there
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    nodes = int(os.environ.get("WORLD_SIZE", local)) // local
    count = wanted or local
    cores = len(os.sched_getaffinity(0))
    # The process that trains needs a core of its own; on a GPU it mostly waits.
    workers = max(cores // count - (wanted == 0), 0)
    if system.num_workers != -1:
        workers = system.num_workers
    return Devices("gpu" if wanted else "cpu", count, nodes, workers, warning)


def stand_resolved(saved: dict[str, Any], devices: Devices, mode: str) -> None:
    """Write the resolved numbers over the -1 in a config that is to be saved with the run."""
    resolved = {
        "num_gpus": devices.count if devices.accelerator == "gpu" else 0,
        "num_workers": devices.workers,
    }
    saved["system"].update(resolved)
    section = saved.get(mode, {}).get("system", {})
    section.update({key: value for key, value in resolved.items() if key in section})
