"""What the config asks for, on machines with and without GPUs, with and without a launcher."""

import pytest
import torch

from emseg.config.schema import System
from emseg.errors import UserError
from emseg.stages.devices import (
    Devices,
    resolve_devices,
    settled_precision,
    slow_precision,
    stand_resolved,
)

LAUNCHER = ("LOCAL_WORLD_SIZE", "WORLD_SIZE")


@pytest.fixture
def machine(monkeypatch):
    """Pretends GPUs, cores, and the variables of a launcher or of Lightning."""

    def pretend(*, gpus: int, cores: int = 16, **variables: int) -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
        for name in LAUNCHER:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return pretend


@pytest.mark.parametrize(
    ("asked", "gpus", "accelerator", "count", "workers"),
    [
        (-1, 0, "cpu", 1, 15),
        (-1, 4, "gpu", 4, 4),
        (1, 4, "gpu", 1, 16),
        (0, 4, "cpu", 1, 15),
        (4, 2, "gpu", 2, 8),
        (4, 0, "cpu", 1, 15),
    ],
)
def test_trains_with_what_is_there(machine, asked, gpus, accelerator, count, workers):
    machine(gpus=gpus)
    devices = resolve_devices(System(num_gpus=asked))
    assert (devices.accelerator, devices.count, devices.nodes) == (accelerator, count, 1)
    assert devices.workers == workers
    assert (devices.warning is not None) == (asked > gpus)


def test_launcher_decides_the_number_of_processes(machine):
    machine(gpus=0, LOCAL_WORLD_SIZE=2, WORLD_SIZE=6)
    devices = resolve_devices(System(num_gpus=-1))
    assert (devices.accelerator, devices.count, devices.nodes) == ("cpu", 2, 3)
    machine(gpus=4, LOCAL_WORLD_SIZE=2, WORLD_SIZE=2)
    devices = resolve_devices(System(num_gpus=-1))
    assert (devices.accelerator, devices.count, devices.nodes) == ("gpu", 2, 1)


def test_more_processes_than_gpus_are_refused(machine):
    machine(gpus=1, LOCAL_WORLD_SIZE=2, WORLD_SIZE=2)
    with pytest.raises(UserError, match="2 processes were launched .* 1 GPUs"):
        resolve_devices(System(num_gpus=-1))
    assert resolve_devices(System(num_gpus=0)).count == 2


def test_process_that_lightning_started_sees_one_machine(machine):
    # Lightning says how many processes there are, not how many are on this machine.
    machine(gpus=4, WORLD_SIZE=4)
    devices = resolve_devices(System(num_gpus=-1))
    assert (devices.count, devices.nodes) == (4, 1)


def test_numbers_stand_resolved_in_the_mode_section_too(machine):
    machine(gpus=2)
    saved = {
        "system": {"num_gpus": -1, "num_workers": -1},
        "optimization": {"precision": "auto"},
        "train": {"system": {"num_gpus": -1}, "optimization": {"precision": "auto"}},
        "test": {"system": {"num_gpus": 1}},
    }
    stand_resolved(saved, resolve_devices(System()), "32-true", "train")
    assert saved == {
        "system": {"num_gpus": 2, "num_workers": 8},
        "optimization": {"precision": "32-true"},
        "train": {"system": {"num_gpus": 2}, "optimization": {"precision": "32-true"}},
        "test": {"system": {"num_gpus": 1}},
    }


@pytest.mark.parametrize("native", [False, True])
def test_bfloat16_on_a_cpu_without_it_is_told(monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    cpu = Devices("cpu", 1, 1, 0, None)
    assert bool(slow_precision("bf16-mixed", cpu)) != native
    assert settled_precision("auto", cpu) == "32-true"  # AVX-512's bfloat16 is slower
    assert settled_precision("16-mixed", cpu) == "16-mixed"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert settled_precision("auto", cpu) == "bf16-mixed"
    assert slow_precision("32-true", cpu) is None
    assert slow_precision("bf16-mixed", Devices("gpu", 1, 1, 0, None)) is None
