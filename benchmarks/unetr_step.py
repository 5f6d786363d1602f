"""A forward pass and a training step of `unetr_aniso_em` as published: 2 patches of 32 x 160 x 160.

    python benchmarks/unetr_step.py [--batch 2] [--precision 32-true] [--quick]

Seconds of the first of each, and the process's peak of memory: on a CPU what /proc tells, hence
Linux, on a GPU what PyTorch has reserved. The loss is `mse_maws`.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from emseg.losses.maws import MembraneWeightedMSE
from emseg.models.unetr_aniso import UNETRAniso

PATCH, SMALL = (32, 160, 160), (32, 64, 64)


def peak(device: str) -> float:
    """The most GB that this process has held since the last call."""
    if device == "cuda":
        bytes_ = torch.cuda.max_memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        return bytes_ / 1e9
    status = Path("/proc/self/status").read_text().splitlines()
    Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e9


def measured(pass_: Callable[[], object], device: str) -> dict[str, float]:
    """Seconds by the clock and of the processor, and GB at the peak, of one call."""
    peak(device)
    start = time.perf_counter(), time.process_time()
    pass_()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    found = {"seconds": seconds[0], "cpu_seconds": seconds[1], "gb": peak(device)}
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--quick", action="store_true", help="patches of 32 x 64 x 64")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = SMALL if asked.quick else PATCH
    torch.manual_seed(0)
    # What a training does on a CPU.
    order = torch.channels_last_3d if device == "cpu" else torch.contiguous_format
    net = UNETRAniso(1, 3, volume_size=size, head="em").to(device).to(memory_format=order)
    image = torch.rand(asked.batch, 1, *size, device=device).to(memory_format=order)
    target = torch.rand(asked.batch, 3, *size, device=device).round()
    loss = MembraneWeightedMSE(channel_weights=(1.35, 1.0, 1.0))
    optimizer = torch.optim.AdamW(net.parameters())

    def forward() -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=asked.precision != "32-true"):
            logits: Tensor = net(image)
        return logits

    def step() -> None:
        optimizer.zero_grad()
        loss(forward(), target, torch.ones_like(target, dtype=torch.bool), image).backward()
        optimizer.step()

    with torch.inference_mode():
        passes = {"forward": measured(forward, device)}
    passes["step"] = measured(step, device)
    for name, found in passes.items():
        print(f"{name:8}", *(f"{value:9.2f} {unit}" for unit, value in found.items()))
    report = {
        "benchmark": "unetr_step",
        "patches": [asked.batch, *size],
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "precision": asked.precision,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
        **passes,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
