"""A training step of the FIB-25 tutorial's network on a CPU, quiet and beside one busy process per
core, against the network and step that the tutorial had before: finest level at full resolution,
bf16-mixed, threads that wait by spinning as OpenMP's default has it.

    python benchmarks/cpu_training.py [--quick]
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

import emseg  # noqa: F401  (sets how threads wait, before torch is loaded)

BEFORE = {"width": (16, 32, 48), "down_factors": ((2, 2, 2),) * 2}
NOW = {
    "width": (24, 48, 96),
    "down_factors": ((2, 2, 2),) * 2,
    "stem_factor": (2, 2, 2),
}
CASES = {"before": (BEFORE, "bf16-mixed"), "now": (NOW, "auto")}
# libgomp's own number of turns that a thread waits before it sleeps.
SPINS = {"before": "300000", "now": os.environ.get("GOMP_SPINCOUNT", "")}
STEPS = 3


def steps(case: str, patch: int) -> list[float]:
    """Seconds of forward and backward passes of two patches, after one to warm up."""
    import torch

    from emseg.models.rsunet import RSUNet
    from emseg.stages.devices import Devices, settled_precision

    shape, precision = CASES[case]
    half = settled_precision(precision, Devices("cpu", 1, 1, 0, None)) == "bf16-mixed"
    torch.manual_seed(0)
    net = RSUNet(1, 6, depth_2d=0, **shape).to(memory_format=torch.channels_last_3d)
    image = torch.rand(2, 1, patch, patch, patch).to(memory_format=torch.channels_last_3d)
    seconds = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = net(image)
        logits.float().square().mean().backward()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def rate(case: str, spins: str, patch: int) -> float:
    """Mvoxel/s in a process of its own, since threads read how to wait when torch is loaded."""
    command = [sys.executable, __file__, "--child", case, "--patch", str(patch)]
    environment = os.environ | {"GOMP_SPINCOUNT": spins}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return 2 * patch**3 / 1e6 / statistics.median(json.loads(done.stdout))


def spin_for_ever() -> None:
    while True:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small patches, one round")
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--patch", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(steps(given.child, given.patch)))
        return
    patch, rounds = (32, 1) if given.quick else (64, 2)
    settings = {case: (case, SPINS[case]) for case in CASES}
    settings["now, default waiting"] = "now", SPINS["before"]
    rates: dict[str, dict[str, list[float]]] = {name: {} for name in settings}
    for busy in (0, len(os.sched_getaffinity(0))):
        others = [multiprocessing.Process(target=spin_for_ever, daemon=True) for _ in range(busy)]
        for other in others:
            other.start()
        for _ in range(rounds):  # in turns
            for name, (case, spins) in settings.items():
                found = rates[name].setdefault("busy" if busy else "quiet", [])
                found.append(rate(case, spins, patch))
        for other in others:
            other.terminate()
    medians = {
        name: {load: statistics.median(found) for load, found in both.items()}
        for name, both in rates.items()
    }
    print(f"{'Mvoxel/s':24} {'quiet':>8} {'busy':>8} {'quiet / busy':>13}")
    for name, both in medians.items():
        ratio = both["quiet"] / both["busy"]
        print(f"{name:24} {both['quiet']:8.3f} {both['busy']:8.3f} {ratio:13.2f}")
    ratios = {load: medians["now"][load] / medians["before"][load] for load in ("quiet", "busy")}
    waiting = medians["now"]["quiet"] / medians["now, default waiting"]["quiet"]
    report = {
        "benchmark": "cpu_training",
        "ratios": {load: round(ratio, 2) for load, ratio in ratios.items()},
        "quiet_by_waiting": round(waiting, 3),
        "quiet_to_busy": round(medians["now"]["quiet"] / medians["now"]["busy"], 2),
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
