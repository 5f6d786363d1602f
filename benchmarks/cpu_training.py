"""A training step of the isotropic RSUNet on a CPU: bf16-mixed with channels last (what emseg does
on a CPU) against float32 in the default memory order (what PyTorch does when nothing is said).

    python benchmarks/cpu_training.py [--quick]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from emseg.models.rsunet import RSUNet

WIDTH = (16, 32, 48)
ROUNDS = 5


def make_step(patch: int, *, fast: bool) -> tuple[Callable[[], torch.Tensor], torch.nn.Module]:
    """A function that does a forward and backward pass and returns the logits; and its network."""
    torch.manual_seed(0)
    net = RSUNet(1, 6, width=WIDTH, down_factors=((2, 2, 2),) * 2, depth_2d=0)
    order = torch.channels_last_3d if fast else torch.contiguous_format
    net = net.to(memory_format=order)
    image = torch.rand(2, 1, patch, patch, patch).to(memory_format=order)

    def step() -> torch.Tensor:
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            logits = net(image)
        logits.float().square().mean().backward()
        return logits.detach().float()

    return step, net


def timed(step: Callable[[], torch.Tensor]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small patch")
    patch = 32 if parser.parse_args().quick else 64
    (ours, _), (peer, _) = make_step(patch, fast=True), make_step(patch, fast=False)
    difference = float((ours() - peer()).norm() / peer().norm())  # also warms up
    seconds = [(timed(ours), timed(peer)) for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(column) for column in zip(*seconds, strict=True))
    voxels = 2 * patch**3 / 1e6
    print(f"{'':24} {'s/step':>8} {'Mvoxel/s':>9}")
    print(f"{'bf16, channels last':24} {mine:8.3f} {voxels / mine:9.3f}")
    print(f"{'float32, default order':24} {theirs:8.3f} {voxels / theirs:9.3f}")
    report = {
        "benchmark": "cpu_training",
        "ratios": {f"2x{patch}^3": round(theirs / mine, 2)},
        "relative_difference_of_logits": round(difference, 4),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
